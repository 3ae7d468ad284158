"""Verification against ONNX Runtime on a hand-assembled program: a pass, and every way in which it must not pass."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from compiler.executor.reference import Reference
from compiler.executor.run import graph_inputs, run_programs
from compiler.executor.stimulus import made_inputs
from compiler.executor.verify import verify_programs
from compiler.isa.program import DebugRow, DeviceProgram, Instruction, Placement
from compiler.isa.table import MODE_FP32, Flag, Queue, Space
from device_db.errors import FvcError

from . import build as b

N, M, H, W = 3, 4, 5, 6
RNG = np.random.default_rng(0)
WEIGHT = RNG.integers(-128, 128, (M, N, 3, 3)).astype(np.int8)
BIAS = RNG.integers(-500, 500, M).astype(np.int32)
WS = RNG.uniform(0.001, 0.01, M).astype(np.float32)
XS, YS, XZ, YZ = np.float32(0.02), np.float32(0.03), 120, 7


def model(*, extra: bool = False, table: bool = False, ws: Any = WS) -> bytes:
    """x (float) -> QuantizeLinear -> QLinearConv 3x3 pad 1 -> Reshape; optionally a node no binary makes."""
    from onnx import TensorProto, helper, numpy_helper

    consts = {
        "xs": XS, "xz": np.uint8(XZ), "w": WEIGHT, "ws": ws, "wz": np.zeros(M, np.int8), "ys": YS, "yz": np.uint8(YZ),
        "b": BIAS, "shape": np.array([1, M * H * W]), "t": np.arange(256).astype(np.uint8),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node(
            "QLinearConv", ["xq", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["yq"], pads=[1] * 4, name="conv"
        ),
        helper.make_node("Reshape", ["yq", "shape"], ["out"]),
    ]
    if extra:
        nodes.insert(2, helper.make_node("MaxPool", ["yq"], ["pooled"], kernel_shape=[2, 2]))
    if table:
        nodes.insert(2, helper.make_node("Cast", ["yq"], ["index"], to=TensorProto.INT32))
        nodes.insert(3, helper.make_node("Gather", ["t", "index"], ["mapped"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, N, H, W])],
        [helper.make_tensor_value_info("out", TensorProto.UINT8, [1, M * H * W])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in consts.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10).SerializeToString()


def host_model() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"])],
        "host0",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, N, H, W])],
        [helper.make_tensor_value_info("xq", TensorProto.UINT8, [1, N, H, W])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (("xs", XS), ("xz", np.uint8(XZ)))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10).SerializeToString()


def program(split: bool = False, ws: Any = WS) -> DeviceProgram:
    """The convolution on one core, in one tile or in two halves of its rows (the second store separate)."""
    wgt = WEIGHT.tobytes()
    entries = np.zeros(M, [("scale", "<f4"), ("shift", "u1"), ("mode", "u1"), ("steps", "<u2"), ("add", "<i8")])
    entries["scale"], entries["mode"] = (XS * ws) / YS, MODE_FP32
    # x' = x - 128, so the bias takes (128 - zx) * sum w on.
    bias = BIAS + (128 - XZ) * WEIGHT.astype(np.int32).sum((1, 2, 3))
    constants = wgt + entries.tobytes() + bias.astype(np.int32).tobytes()
    size, out = N * H * W, M * H * W
    box = (0, 1, 0, M, 0, H, 0, W)
    debug = [DebugRow("", "", "xq", (), "transport"), DebugRow("conv", "conv#0", "yq", box, "output")]
    y_addr = 4096

    def rows(first: int, count: int) -> Instruction:
        return b.ins(
            "ST", debug=1, scratch_space=Space.ACT, scratch_addr=8192 + first * W, scratch_s2=H * W, scratch_s1=W,
            elem=1, dram_addr=y_addr + first * W, depth=1, n2=M, n1=count, n0=W, dram_s2=H * W, dram_s1=W, dram_s0=1,
        )  # fmt: skip

    order = [
        b.receive(0, size),
        b.load(Space.CONST, 0, len(wgt), Space.WGT, 0, flags=Flag.ONCE),
        b.load(Space.CONST, len(wgt), 20 * M, Space.TAB, 0, flags=Flag.ONCE),
        b.ins(
            "LD", dram_space=Space.WORK, scratch_space=Space.ACT, elem=1, fill=XZ, pad_top=1, pad_bottom=1, pad_left=1,
            pad_right=1, dram_addr=0, depth=1, n2=N, n1=H, n0=W, dram_s2=H * W, dram_s1=W, dram_s0=1,
            scratch_s2=(H + 2) * (W + 2), scratch_s1=W + 2,
        ),
        b.ins(
            "MAC", flags=Flag.INIT | Flag.BIAS | Flag.X_UNSIGNED, tab_addr=16 * M, m=M, n=N, groups=1, kh=3, kw=3, sh=1,
            sw=1, dh=1, dw=1, in_h=H + 2, in_w=W + 2, oh=H, ow=W,
        ),
        b.ins("VREQ", flags=Flag.Y_UNSIGNED, m=M, count=H * W, dst_addr=8192, zero_point=YZ, lo=0, hi=255),
        *([rows(0, 2), rows(2, H - 2)] if split else [rows(0, H)]),
        b.send(y_addr, out),
        b.ins("END"),
    ]  # fmt: skip
    host = [
        b.message(b.HOST_IN, 1, "xq", "u8", (1, N, H, W), to_core=True),
        b.message(b.HOST_OUT, 2, "yq", "u8", (1, M, H, W), to_core=False),
    ]
    core = b.core(order, constants=constants, debug=debug, memory_map=[Placement("yq", "u8", box, y_addr, out, 1)])
    return b.device([core], host, {"out": "yq"}, aliases={"out": ("yq", (1, M * H * W))})


HOST = {"host0": host_model()}


@pytest.mark.parametrize("split", [False, True])
def test_all_tensors_compared(split: bool) -> None:
    report = verify_programs([program(split)], model(), HOST, frames=5)
    assert report.passed and report.mismatches == 0
    assert {t.tensor: (t.kind, t.compared) for t in report.tensors} == {
        "xq": ("host", 5 * N * H * W),
        "yq": ("engine", 5 * M * H * W),
        "out": ("alias", 5 * M * H * W),
    }
    data = report.as_json()
    assert data["elements"] == 5 * (N + 2 * M) * H * W and data["failures"] == []
    assert 0 < data["requantiser_levels"]["seen"] <= data["requantiser_levels"]["possible"] < 256 * M
    assert data["accumulators"] == {"elements": 5 * M * H * W, "mismatches": 0}
    assert data["macs"] == 5 * M * N * 9 * H * W
    assert ET.fromstring(report.junit()).get("failures") == "0"


def test_one_at_a_time_equals_in_flight() -> None:
    done: list[int] = []
    a = verify_programs([program()], model(), HOST, frames=4, in_flight=1, progress=lambda d, t: done.append(d))
    together = verify_programs([program()], model(), HOST, frames=4, order_seed=3)
    different = {k for k, v in a.as_json().items() if v != together.as_json()[k]}
    assert different == {"instructions"}  # ONCE loads run once a run
    assert done == [1, 2, 3, 4]


def test_wrong_weight_is_found_and_named() -> None:
    p = program()
    raw = bytearray(p.cores[0].constants)
    raw[5] ^= 0x40
    p.cores[0].constants = bytes(raw)
    report = verify_programs([p], model(), HOST, in_flight=1)
    assert not report.passed and report.mismatches > 0
    (failure,) = [f for f in report.as_json()["failures"] if f["tensor"] == "yq"]
    first = failure["first"][0]
    assert first["node"] == "conv" and first["source"] == "dev-0/SLR0/0, ST[0]" and first["index"][1] == 0
    assert {m.frame for t in report.failures() for m in t.first} <= {0, 1, 2, 3}
    tree = ET.fromstring(report.junit())
    assert any(case.get("name") == "yq" and case.find("failure") is not None for case in tree)


@pytest.mark.parametrize("byte", [5, 2 * N * 9 + 1])
def test_wrong_weight_that_no_tensor_shows_is_found_in_the_accumulators(byte: int) -> None:
    """With a scale so small every result is the zero point, whatever the weights."""
    small = np.full(M, 1e-9, np.float32)
    assert verify_programs([program(ws=small)], model(ws=small), HOST).passed
    p = program(ws=small)
    raw = bytearray(p.cores[0].constants)
    raw[byte] ^= 1
    p.cores[0].constants = bytes(raw)
    report = verify_programs([p], model(ws=small), HOST, in_flight=1)
    (row,) = report.failures()
    assert row.tensor == "yq" and row.mismatches == 0 and row.compared == row.elements and report.mismatches == 1
    (failure,) = report.as_json()["failures"]
    found = failure["accumulators"]
    channel = byte // (N * 9)
    assert found["compared"] == found["wanted"] == 4 * M * H * W and 0 < found["mismatches"] <= 4 * H * W
    assert {m["channel"] for m in found["first"]} == {m["index"][1] for m in found["first"]} == {channel}
    # The weight changed by +-1 at one tap, so the sum does by one value of x - zero point.
    assert all(1 <= abs(m["got"] - m["expected"]) <= 255 and m["node"] == "conv" for m in found["first"])
    assert "accumulators differ" in failure["what"] and "channel" in report.junit()


def test_result_that_no_requantiser_made_is_a_failure() -> None:
    """The right bytes, but filled in: with this scale they are all the zero point."""
    small = np.full(M, 1e-9, np.float32)
    p = program(ws=small)
    cx = p.cores[0].queues[Queue.CX]
    (vreq,) = [k for k, i in enumerate(cx) if i.op == "VREQ"]
    fill = b.ins("VFILL", dst_addr=cx[vreq].fields["dst_addr"], count=M * H * W, value=YZ)
    fill.wait, fill.post, cx[vreq].wait, cx[vreq].post = 0, cx[vreq].post, cx[vreq].wait, 0
    cx.insert(vreq + 1, fill)
    (row,) = verify_programs([p], model(ws=small), HOST).failures()
    assert row.mismatches == 0 and row.failure() == f"only 0 of {4 * M * H * W} accumulators were compared"


def drop_output_row(p: DeviceProgram) -> None:
    p.cores[0].debug[1] = DebugRow("conv", "conv#0", "yq", (), "partial")


def shrink_store(p: DeviceProgram) -> None:
    """Two rows less are stored by the output store, a second one without the role stores them."""
    st = p.cores[0].queues[Queue.ST][1]
    st.debug = 0


@pytest.mark.parametrize("change,compared", [(drop_output_row, 0), (shrink_store, 4 * M * 2 * W)])
def test_incomplete_coverage_is_a_failure(change: Any, compared: int) -> None:
    p = program(split=True)
    change(p)
    report = verify_programs([p], model(), HOST)
    (row,) = [t for t in report.tensors if t.tensor == "yq"]
    assert not report.passed and report.mismatches >= 1 and row.compared == compared and row.failure()


def test_tensor_that_nobody_makes_is_a_failure() -> None:
    report = verify_programs([program()], model(extra=True), HOST)
    assert [(t.tensor, t.kind) for t in report.failures()] == [("pooled", "missing")]


def test_alias_may_be_stored_instead_of_its_source() -> None:
    """The binaries name the reshaped tensor, as a graph with the root behind the Reshape does."""
    p = program()
    core, box = p.cores[0], (0, 1, 0, M * H * W, 0, 1, 0, 1)
    core.debug[1] = DebugRow("conv", "conv#0", "out", box, "output")
    core.memory_map[0] = Placement("out", "u8", box, 4096, M * H * W, 1)
    p.host[1] = b.message(b.HOST_OUT, 2, "out", "u8", (1, M * H * W), to_core=False)
    p.outputs, p.aliases = {"out": "out"}, {}
    report = verify_programs([p], model(), HOST)
    assert report.passed and {t.tensor: t.kind for t in report.tensors} == {
        "xq": "host",
        "yq": "alias",
        "out": "engine",
    }


def test_table_index_counts_as_part_of_its_lookup() -> None:
    report = verify_programs([program()], model(table=True), HOST)
    assert [(t.tensor, t.kind) for t in report.failures()] == [("mapped", "missing")]
    assert [t.kind for t in report.tensors if t.tensor == "index"] == ["index"]


def test_wrong_output_shape_is_a_failure() -> None:
    p = program()
    p.aliases = {}
    report = verify_programs([p], model(), HOST)
    assert [t.tensor for t in report.failures()] == ["out"]


def test_samples_are_used_and_checked() -> None:
    good = {"x": np.ones((1, N, H, W), np.float32)}
    report = verify_programs([program()], model(), HOST, samples=[good], frames=2)
    assert report.inputs == ["all-minimum", "all-maximum", "sample 0"] and report.passed
    for bad in ({"x": good["x"][0]}, {"x": good["x"].astype(np.float64)}, {}, good | {"z": good["x"]}):
        with pytest.raises(FvcError) as e:
            verify_programs([program()], model(), HOST, samples=[bad])
        assert e.value.code == "FVC409" and e.value.exit_code == 2


def test_made_inputs_span_the_quantizer() -> None:
    frames = dict(made_inputs(Reference(model()), 3))
    assert frames["all-minimum"]["x"][0, 0, 0, 0] == np.float32(-XZ * float(XS))
    assert frames["all-maximum"]["x"][0, 0, 0, 0] == np.float32((255 - XZ) * float(XS))


def test_run_needs_binaries_and_host_segments_only() -> None:
    from compiler.executor.host import Segment

    p = program()
    assert {k: (d.name, s) for k, (d, s) in graph_inputs([p], [Segment("host0", HOST["host0"])]).items()} == {
        "x": ("float32", (1, N, H, W))
    }
    x = RNG.normal(size=(1, N, H, W)).astype(np.float32)
    (out,) = run_programs([p], HOST, [{"x": x}])
    assert (out["out"] == Reference(model()).run({"x": x})["out"]).all()
    with pytest.raises(FvcError):
        run_programs([p], HOST, [{"y": x}])


def test_accumulators_are_shown_before_requantisation() -> None:
    seen: list[tuple[int, int, int, tuple[int, ...]]] = []
    verify_programs(
        [program()],
        model(),
        HOST,
        frames=3,
        on_accumulator=lambda rank, i, f, acc: seen.append((rank, i, f, acc.shape)),
    )
    assert seen == [(0, 1, f, (M, H * W)) for f in range(3)]
