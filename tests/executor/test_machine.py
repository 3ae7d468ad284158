"""The machine's own rules: tokens, channels, poison, bounds, frames in flight, host dataflow."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.executor.faults import MachineError
from compiler.executor.machine import Machine
from compiler.isa.program import Channel, DebugRow, DeviceProgram, Placement
from compiler.isa.table import HOST_RANK, Flag, Queue, Space

from . import build as b


def copy_program(n: int = 12, **change: int) -> DeviceProgram:
    """Host -> WORK -> ACT -> WORK -> host; bytes come back as they went."""
    order = [
        b.receive(0, n),
        b.load(Space.WORK, 0, n, Space.ACT, 64),
        b.store(Space.ACT, 64, n, 512),
        b.send(512, n),
        b.ins("END"),
    ]
    for key, value in change.items():
        index, field = key.split("_", 1)
        order[int(index[1:])].fields[field] = value
    host = [
        b.message(b.HOST_IN, 1, "x", "u8", (3, n // 3), to_core=True),
        b.message(b.HOST_OUT, 2, "y", "u8", (3, n // 3), to_core=False),
    ]
    return b.device([b.core(order)], host, {"y": "y"})


def frames(count: int, n: int = 12) -> list[dict[str, np.ndarray]]:
    return [{"x": ((np.arange(n) + 7 * f) * 5 % 256).astype(np.uint8).reshape(3, -1)} for f in range(count)]


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_bytes_come_back_for_every_frame(seed: int | None) -> None:
    xs = frames(5)
    out = Machine([copy_program()]).run(xs, order_seed=seed)
    assert [o["y"].tolist() for o in out] == [x["x"].tolist() for x in xs]


def test_no_frame_runs_nothing() -> None:
    assert Machine([copy_program()]).run([]) == []


def fault(program: DeviceProgram, code: str, count: int = 1) -> MachineError:
    with pytest.raises(MachineError) as e:
        Machine([program]).run(frames(count))
    assert e.value.code == code, e.value.block()
    return e.value


def test_unwritten_byte_is_named() -> None:
    e = fault(copy_program(i1_dram_addr=1), "FVC402")
    assert "WORK byte 12" in e.what and "LD[0] LD" in e.where[0]


def test_bytes_of_another_frame_are_no_data() -> None:
    """The second frame does not load again: what lies there is the first frame's, even if it were equal."""
    p = copy_program()
    p.cores[0].queues[Queue.LD][0].flags = Flag.ONCE
    p.cores[0].queues[Queue.RX][0].fields["depth"] = 1
    p.cores[0].queues[Queue.ST][0].fields["scratch_addr"] = 64
    assert [o["y"].tolist() for o in Machine([p]).run(frames(1) * 2)] == [
        frames(1)[0]["x"].tolist()
    ] * 2  # ONCE: for all
    p = copy_program()
    p.cores[0].queues[Queue.ST][0].flags = Flag.ONCE  # the store is left out from frame 1 on
    e = fault(p, "FVC402", count=2)
    assert "another frame left" in e.what and "TX[0]" in e.where[0]


def test_missing_token_is_found_in_some_order() -> None:
    p = copy_program()
    p.cores[0].queues[Queue.ST][0].post = p.cores[0].queues[Queue.TX][0].wait = 0
    codes = set()
    for seed in range(8):
        with pytest.raises(MachineError) as e:
            Machine([p]).run(frames(3), order_seed=seed)
        codes.add(e.value.code)
    assert "FVC402" in codes


def test_stale_size_is_seen_in_scratch() -> None:
    assert "ACT byte 76" in fault(copy_program(i2_scratch_addr=65), "FVC402").what


@pytest.mark.parametrize("change", [{"i1_scratch_addr": 1 << 20}, {"i2_dram_addr": (1 << 16) - 11}, {"i1_dram_s0": -1}])
def test_bounds(change: dict[str, int]) -> None:
    fault(copy_program(**change), "FVC401")


@pytest.mark.parametrize("change", [{"i0_tag": 9}, {"i3_tag": 9}, {"i3_bytes": 11}, {"i0_bytes": 13}])
def test_messages_must_agree(change: dict[str, int]) -> None:
    fault(copy_program(**change), "FVC405")


def test_message_of_other_size() -> None:
    fault(copy_program(i0_n0=11, i0_bytes=11), "FVC405")


@pytest.mark.parametrize(
    "change", [{"i0_channel": 7}, {"i0_rank": 3}, {"i0_channel": 1}, {"i1_depth": 0}, {"i1_elem": 3}]
)
def test_illegal_fields(change: dict[str, int]) -> None:
    fault(copy_program(**change), "FVC407")


def test_const_is_read_only() -> None:
    p = copy_program()
    p.cores[0].constants = bytes(64)
    p.cores[0].queues[Queue.LD][0].fields["dram_space"] = Space.CONST
    assert Machine([p]).run(frames(1))[0]["y"].tolist() == [[0] * 4] * 3
    p.cores[0].queues[Queue.ST][0].fields["dram_space"] = Space.CONST  # ST has no such field: it always goes to WORK
    Machine([p]).run(frames(1))


def test_dropped_token_deadlocks_with_a_report() -> None:
    p = copy_program()
    p.cores[0].queues[Queue.LD][0].post = 0
    e = fault(p, "FVC403")
    assert any("ST[0]" in w and "token from LD" in w for w in e.where)
    assert any("host: channel 1, y, frame 0: no message" in w for w in e.where)


def test_extra_token_is_seen() -> None:
    p = copy_program()
    p.cores[0].queues[Queue.LD][0].post |= 1 << Queue.CX
    fault(p, "FVC404")


def test_semaphore_overflow() -> None:
    p = copy_program()
    p.cores[0].queues[Queue.CTL][0].post |= 1 << Queue.CX
    fault(p, "FVC404", count=300)


def test_crc() -> None:
    import zlib

    for expect, ok in ((zlib.crc32(b"weights!"), True), (1, False)):
        p = copy_program()
        p.cores[0].constants = b"..weights!"
        p.cores[0].queues[Queue.CTL].insert(0, b.ins("CRC", dram_addr=2, bytes=8, expect=expect))
        if ok:
            Machine([p]).run(frames(2))
        else:
            fault(p, "FVC406")


def test_instruction_in_a_wrong_queue() -> None:
    p = copy_program()
    p.cores[0].queues[Queue.CX].append(b.ins("END"))
    fault(p, "FVC407")


def two_core_pipeline(depth: int = 2) -> list[DeviceProgram]:
    """Core 0 sends what it got to core 1 one stage later, core 1 adds a table (x + 1) and answers the host."""
    n = 12
    first = b.core([b.receive(0, n), b.send(0, n, channel=2, rank=1, tag=5), b.ins("END")], rank=0)
    table = bytes((i + 1) % 256 for i in range(256))
    second = b.core(
        [
            b.receive(0, n, channel=2, rank=0, tag=5, depth=depth, frame_stride=64),
            b.load(Space.CONST, 0, 256, Space.TAB, 0, flags=Flag.ONCE, stage=1),
            b.load(Space.WORK, 0, n, Space.ACT, 0, depth=depth, frame_stride=64, stage=1),
            b.ins(
                "VCOPY", flags=Flag.TABLE, stage=1, src_addr=0, dst_addr=256, n3=1, n2=1, n1=1, n0=n, src_s0=1, dst_s0=1
            ),
            b.store(Space.ACT, 256, n, 512, stage=1, debug=0),
            b.send(512, n, stage=1),
            b.ins("END"),
        ],
        rank=1,
        constants=table,
        debug=[DebugRow("add1", "add1#0", "y", (0, 1, 0, 3, 0, 1, 0, 4), "output")],
        memory_map=[Placement("y", "u8", (0, 1, 0, 3, 0, 1, 0, 4), 512, n, 1)],
    )
    channels = [
        Channel(0, HOST_RANK, 0, 1, 64, "PCIe", ()),
        Channel(1, 1, HOST_RANK, 1, 64, "PCIe", ()),
        Channel(2, 0, 1, 2, 64, "SLL", ()),
    ]
    host = [
        b.message(0, 1, "x", "u8", (3, 4), to_core=True),
        b.message(1, 2, "y", "u8", (3, 4), to_core=False, stage=1),
    ]
    return [
        b.device([first], host[:1], {"y": "y"}, channels=channels, stages=1),
        b.device([second], host[1:], {"y": "y"}, channels=channels, stages=1),
    ]


@pytest.mark.parametrize("seed", [None, *range(6)])
def test_pipeline_of_two_devices(seed: int | None) -> None:
    xs, pieces = frames(7), []
    out = Machine(two_core_pipeline()).run(xs, on_output=pieces.append, order_seed=seed)
    assert [o["y"].tolist() for o in out] == [(x["x"] + 1).tolist() for x in xs]
    assert sorted(p.frame for p in pieces) == list(range(7))
    assert all(p.tensor == "y" and p.values.size == 12 for p in pieces)
    assert pieces[0].place.coordinates().reshape(4, -1)[:, 7].tolist() == [0, 1, 0, 3]


def test_stage_deeper_than_declared() -> None:
    programs = two_core_pipeline()
    for p in programs:
        p.stages = 0
    with pytest.raises(MachineError) as e:
        Machine(programs).run(frames(1))
    assert e.value.code == "FVC407"


def test_replicas_deal_frames_round_robin() -> None:
    n = 12
    cores, host, channels = [], [], []
    for r in range(2):
        cores.append(b.core([b.receive(0, n, channel=2 * r), b.send(0, n, channel=2 * r + 1), b.ins("END")], rank=r))
        channels += [
            Channel(2 * r, HOST_RANK, r, 2, 64, "PCIe", ()),
            Channel(2 * r + 1, r, HOST_RANK, 2, 64, "PCIe", ()),
        ]
        host += [
            b.message(2 * r, 1, "x", "u8", (3, 4), to_core=True, replica=r),
            b.message(2 * r + 1, 2, "y", "u8", (3, 4), to_core=False, replica=r),
        ]
    program = b.device(cores, host, {"y": "y"}, channels=channels, replicas=2)
    for count in (1, 2, 5):
        xs = frames(count)
        out = Machine([program]).run(xs)
        assert [o["y"].tolist() for o in out] == [x["x"].tolist() for x in xs]


def test_host_segments_before_and_after() -> None:
    from onnx import TensorProto, helper

    def model(op: str, i: str, o: str, it: int, ot: int, **kw: int) -> bytes:
        g = helper.make_graph(
            [helper.make_node(op, [i], [o], **kw)],
            "g",
            [helper.make_tensor_value_info(i, it, [3, 4])],
            [helper.make_tensor_value_info(o, ot, [3, 4])],
        )
        return helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=10).SerializeToString()

    f, u = TensorProto.FLOAT, TensorProto.UINT8
    segments = {"host0": model("Cast", "in", "x", f, u, to=u), "host1": model("Cast", "y", "out", u, f, to=f)}
    program = copy_program()
    program.outputs = {"out": "out", "y2": "y"}
    program.aliases = {"y2": ("y", (12,))}
    out = Machine([program]).run([{"in": x["x"].astype(np.float32)} for x in frames(3)], segments)
    for o, x in zip(out, frames(3), strict=True):
        assert o["out"].dtype == np.float32 and (o["out"] == x["x"]).all() and o["y2"].shape == (12,)


def test_graph_input_that_cores_see_in_another_shape() -> None:
    from compiler.executor.run import input_specs

    program = copy_program()
    program.aliases = {"pixels": ("x", (2, 6))}
    assert input_specs([program], {}) == {"pixels": ("uint8", (2, 6))}
    (out,) = Machine([program]).run([{"pixels": np.arange(12, dtype=np.uint8).reshape(2, 6)}])
    assert out["y"].tolist() == np.arange(12).reshape(3, 4).tolist()
