"""Each compute instruction against ONNX Runtime (or plain Python integers) on random and exhaustive operands."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from compiler.executor.exact import fma32
from compiler.executor.faults import Fault
from compiler.executor.host import session
from compiler.executor.mac import build_mac
from compiler.executor.memory import ALWAYS, Memory, core_memory
from compiler.executor.vector import BUILDERS, build_vreq
from compiler.isa.table import MODE_FIXED, MODE_FP32, MODE_THRESHOLD, Flag, Space

from . import build as b

Array = np.ndarray[Any, Any]
TYPES = {"u8": np.uint8, "s8": np.int8}


def memory(**content: Array | bytes) -> Memory:
    """A core's memory with these bytes at address 0 of the named spaces."""
    m = core_memory(b.core([b.ins("END")]))
    for name, value in content.items():
        raw = np.frombuffer(value if isinstance(value, bytes) else value.tobytes(), np.uint8)
        region = m[Space[name.upper()]]
        region.data[: len(raw)] = raw
        region.stamps[: len(raw)] = ALWAYS  # type: ignore[index]
    return m


def take(m: Memory, space: Space, address: int, count: int, dtype: Any, frame: int = 0) -> Array:
    size = count * np.dtype(dtype).itemsize
    return np.frombuffer(m[space].range(address, size, frame).tobytes(), dtype)


def ort(node: Any, inputs: dict[str, Array], opset: int = 18) -> Array:
    """Output "y" of one ONNX node; every input is a graph input."""
    from onnx import helper

    values = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in inputs.items()
    ]
    y = helper.ValueInfoProto()
    y.name = "y"
    graph = helper.make_graph([node], "g", values, [y])
    sets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=10)
    return session(model.SerializeToString()).run(["y"], inputs)[0]  # type: ignore[no-any-return]


def integers(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> Array:
    info = np.iinfo(TYPES[kind])
    return rng.integers(info.min, info.max + 1, shape).astype(TYPES[kind])


CONVS = [
    # m, n, groups, kernel, strides, dilations, tile
    (8, 5, 1, (3, 3), (1, 1), (1, 1), (9, 11)),
    (8, 5, 1, (3, 3), (2, 2), (1, 1), (9, 11)),
    (4, 3, 1, (5, 1), (2, 1), (2, 1), (15, 4)),
    (4, 3, 1, (1, 1), (1, 1), (1, 1), (7, 6)),
    (4, 3, 1, (1, 1), (2, 2), (1, 1), (7, 6)),
    (4, 1500, 1, (1, 1), (1, 1), (1, 1), (3, 2)),
    (4, 300, 1, (3, 3), (1, 1), (1, 1), (5, 4)),
    (4, 4, 1, (33, 33), (1, 1), (1, 1), (34, 35)),
    (6, 1, 6, (3, 3), (1, 1), (1, 1), (9, 11)),
    (6, 1, 6, (3, 3), (2, 2), (1, 1), (9, 11)),
    (6, 1, 6, (3, 3), (1, 1), (2, 2), (9, 11)),
    (6, 1, 3, (3, 3), (1, 1), (1, 1), (9, 11)),
    (6, 4, 2, (3, 2), (1, 1), (1, 1), (9, 11)),
    (5, 7, 1, (7, 7), (1, 1), (1, 1), (9, 8)),
]


@pytest.mark.parametrize("m,n,groups,kernel,strides,dilations,tile", CONVS)
@pytest.mark.parametrize("x_kind,w_kind", [("u8", "s8"), ("s8", "s8"), ("u8", "u8")])
@pytest.mark.parametrize("row_sum", [0, 5])
def test_mac_equals_conv_integer(
    m: int, n: int, groups: int, kernel: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int],
    tile: tuple[int, int], x_kind: str, w_kind: str, row_sum: int,
) -> None:  # fmt: skip
    """x' = x - 128 (unsigned) and w' likewise; acc = sum x' (w' + row_sum): ConvInteger with those zero points.

    ConvInteger runs in uint8 on both sides so that no saturating kernel is met."""
    from onnx import helper

    rng = np.random.default_rng(m * n + row_sum)
    x, w = integers(rng, (groups * n, *tile), x_kind), integers(rng, (m, n, *kernel), w_kind)
    oh, ow = ((t - (k - 1) * d - 1) // s + 1 for t, k, s, d in zip(tile, kernel, strides, dilations, strict=True))
    f = {
        "m": m, "n": n, "groups": groups, "kh": kernel[0], "kw": kernel[1], "sh": strides[0], "sw": strides[1],
        "dh": dilations[0], "dw": dilations[1], "in_h": tile[0], "in_w": tile[1], "oh": oh, "ow": ow,
        "row_sum": row_sum, "tab_addr": 64,
    }  # fmt: skip
    flags = (Flag.X_UNSIGNED if x_kind == "u8" else 0) | (Flag.W_UNSIGNED if w_kind == "u8" else 0)
    bias = rng.integers(-(2**31), 2**31, m).astype(np.int32)
    mem = memory(act=x, wgt=w, tab=bytes(64) + bias.tobytes())
    build_mac(mem, b.ins("MAC", flags=flags | Flag.INIT, **f))(0)
    plain = take(mem, Space.ACC, 0, m * oh * ow, np.int32).reshape(m, oh, ow)

    xp = x.astype(np.int32) - (128 if x_kind == "u8" else 0)
    wp = w.astype(np.int32) - (128 if w_kind == "u8" else 0)
    conv = helper.make_node(
        "ConvInteger", ["x", "w", "xz", "wz"], ["y"], group=groups, strides=strides, dilations=dilations
    )
    one = np.uint8(128)
    feed = {
        "x": (xp + 128).astype(np.uint8)[None],
        "w": (wp + 128).astype(np.uint8),
        "xz": np.array(one),
        "wz": np.array(one),
    }
    expected = ort(conv, feed)[0]
    if row_sum:
        ones = np.full_like(feed["w"], 129)
        expected = expected + row_sum * ort(conv, feed | {"w": ones})[0]
    assert (plain == expected).all()

    build_mac(mem, b.ins("MAC", flags=flags, **f))(0)
    assert (take(mem, Space.ACC, 0, m * oh * ow, np.int32) == 2 * expected.ravel()).all()
    build_mac(mem, b.ins("MAC", flags=flags | Flag.INIT | Flag.BIAS, **f))(0)
    wrapped = (expected.astype(np.int64) + bias[:, None, None]).astype(np.int32)
    assert (take(mem, Space.ACC, 0, m * oh * ow, np.int32) == wrapped.ravel()).all()


def test_mac_extreme_operands_are_exact() -> None:
    """All products +2^14 and K = 4608: the largest sum a ResNet layer can have, far above 2^24."""
    n, taps = 512, 9
    x = np.zeros((n, 3, 3), np.uint8)
    w = np.full((2, n, 3, 3), -128, np.int8)
    mem = memory(act=x, wgt=w)
    f = {
        "m": 2,
        "n": n,
        "groups": 1,
        "kh": 3,
        "kw": 3,
        "sh": 1,
        "sw": 1,
        "dh": 1,
        "dw": 1,
        "in_h": 3,
        "in_w": 3,
        "oh": 1,
        "ow": 1,
    }
    build_mac(mem, b.ins("MAC", flags=Flag.INIT | Flag.X_UNSIGNED, **f))(0)
    assert take(mem, Space.ACC, 0, 2, np.int32).tolist() == [n * taps * 2**14] * 2


@pytest.mark.parametrize("change", [{"oh": 4}, {"kw": 4}, {"m": 3, "groups": 2}, {"mode": 2}, {"sh": 0}, {"n": 0}])
def test_mac_rejects(change: dict[str, int]) -> None:
    f = {
        "m": 2,
        "n": 2,
        "groups": 1,
        "kh": 3,
        "kw": 3,
        "sh": 1,
        "sw": 1,
        "dh": 1,
        "dw": 1,
        "in_h": 5,
        "in_w": 5,
        "oh": 3,
        "ow": 3,
    }
    with pytest.raises(Fault):
        build_mac(memory(), b.ins("MAC", flags=Flag.INIT, **(f | change)))


ENTRY = np.dtype([("scale", "<i4"), ("shift", "u1"), ("mode", "u1"), ("steps", "<u2"), ("add", "<i8")])


@pytest.mark.parametrize("kind", ["u8", "s8"])
def test_vreq_float_equals_qlinearconv(kind: str) -> None:
    """A 1x1 QLinearConv with weight 1, and a bias that is the accumulator, is the requantiser alone."""
    from onnx import helper

    rng = np.random.default_rng(7)
    m, count = 64, 40
    acc = rng.integers(-(2**24), 2**24, (m, count)).astype(np.int32)
    acc[:, :4] = [2**31 - 1, -(2**31), 0, 1]
    xs, ys = np.float32(0.0131), np.float32(0.0473)
    ws = (10.0 ** rng.uniform(-7, 0, m)).astype(np.float32)
    zero = TYPES[kind](3 if kind == "s8" else 131)
    scale = (np.float32(xs) * ws) / ys
    entries = np.zeros(m, ENTRY)
    entries["scale"] = scale.view(np.int32)
    entries["mode"] = MODE_FP32
    lo, hi = np.iinfo(TYPES[kind]).min, np.iinfo(TYPES[kind]).max
    mem = memory(acc=acc, tab=entries)
    flags = Flag.Y_UNSIGNED if kind == "u8" else 0
    build_vreq(mem, b.ins("VREQ", flags=flags, m=m, count=count, zero_point=int(zero), lo=lo, hi=hi))(0)
    got = take(mem, Space.ACT, 0, m * count, TYPES[kind]).reshape(m, count)
    node = helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["y"])
    for column in range(count):
        y = ort(
            node,
            {
                "x": np.zeros((1, 1, 1, 1), TYPES[kind]), "xs": np.array(xs), "xz": np.array(TYPES[kind](0)),
                "w": np.ones((m, 1, 1, 1), np.int8), "ws": ws, "wz": np.zeros(m, np.int8),
                "ys": np.array(ys), "yz": np.array(zero), "b": acc[:, column].copy(),
            },
        )  # fmt: skip
        assert (got[:, column] == y.ravel()).all()


def test_vreq_fixed_and_threshold_mixed() -> None:
    rng = np.random.default_rng(3)
    m, count = 12, 50
    acc = rng.integers(-60000, 60000, (m, count)).astype(np.int32)
    entries = np.zeros(m, ENTRY)
    steps = [np.sort(rng.integers(-50000, 50000, rng.integers(1, 256))).astype(np.int32) for _ in range(m)]
    steps[1] = steps[1][:0]
    blob, expected = b"", np.zeros((m, count), np.int64)
    for i in range(m):
        if i % 2:
            entries[i] = (-100 + i, 0, MODE_THRESHOLD, len(steps[i]), 16 * m + len(blob))
            blob += steps[i].tobytes()
            expected[i] = [-100 + i + sum(int(t) <= int(a) for t in steps[i]) for a in acc[i]]
        else:
            entries[i] = (rng.integers(-(2**31), 2**31), 20 + i, MODE_FIXED, 0, rng.integers(-(2**60), 2**60))
            big, add, shift = int(entries[i]["scale"]), int(entries[i]["add"]), 20 + i
            expected[i] = [(int(a) * big + add) >> shift for a in acc[i]]
    mem = memory(acc=acc, tab=entries.tobytes() + blob)
    seen = []
    build_vreq(mem, b.ins("VREQ", m=m, count=count, lo=-90, hi=100), lambda frame, a: seen.append(a.copy()))(0)
    assert (take(mem, Space.ACT, 0, m * count, np.int8).reshape(m, count) == expected.clip(-90, 100)).all()
    assert (seen[0] == acc).all()


@pytest.mark.parametrize(
    "entry,fields",
    [
        ((1, 64, MODE_FIXED, 0, 0), {}),
        ((1, 1, 3, 0, 0), {}),
        ((0x7FC00000, 0, MODE_FP32, 0, 0), {}),
        ((0, 0, MODE_THRESHOLD, 5, 1 << 21), {}),
        ((0, 0, MODE_THRESHOLD, 5, 512), {}),
        ((1, 1, MODE_FIXED, 0, 0), {"lo": -1}),
        ((1, 1, MODE_FIXED, 0, 0), {"lo": 9, "hi": 8}),
    ],
)
def test_vreq_rejects(entry: tuple[int, ...], fields: dict[str, int]) -> None:
    mem = memory(acc=np.zeros(4, np.int32), tab=np.array([entry], ENTRY))
    with pytest.raises(Fault):
        build_vreq(mem, b.ins("VREQ", flags=Flag.Y_UNSIGNED, **({"m": 1, "count": 4, "lo": 0, "hi": 255} | fields)))(0)


def vbin_entry(mode: int, za: int, zb: int, zy: int, ra: float, rb: float, c: float) -> bytes:
    head = np.array([za, zb, zy], "<i2").tobytes()
    return bytes([mode, 0]) + head + np.array([ra, rb, c], "<f4").tobytes() + bytes(12)


@pytest.mark.parametrize("kind", ["u8", "s8"])
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_vbin_equals_onnxruntime_on_all_pairs(kind: str, op: str) -> None:
    from onnx import helper

    rng = np.random.default_rng(11)
    t = TYPES[kind]
    lo, hi = np.iinfo(t).min, np.iinfo(t).max
    every = np.arange(256).astype(np.uint8).view(t)
    a, c = np.repeat(every, 256), np.tile(every, 256)
    node = helper.make_node(op, ["a", "sa", "za", "b", "sb", "zb", "sc", "zc"], ["y"], domain="com.microsoft")
    flags = (Flag.X_UNSIGNED | Flag.W_UNSIGNED | Flag.Y_UNSIGNED) if kind == "u8" else 0
    for _ in range(40):
        sa, sb, sc = (10.0 ** rng.uniform(-3, -1, 3)).astype(np.float32)
        za, zb, zc = (t(v) for v in rng.integers(lo, hi + 1, 3))
        feed = {"a": a, "sa": np.array(sa), "za": np.array(za), "b": c, "sb": np.array(sb), "zb": np.array(zb)}
        expected = ort(node, feed | {"sc": np.array(sc), "zc": np.array(zc)})
        if op == "QLinearAdd":
            ra, rb = sa / sc, sb / sc
            inner = np.float32(rb * np.float32(zb))
            const = np.float32(np.float32(zc) - fma32(np.array([za], np.int64), ra, inner)[0])
            entry = vbin_entry(MODE_FP32, 0, 0, 0, ra, rb, const)
        else:
            entry = vbin_entry(MODE_FP32, int(za), int(zb), int(zc), np.float32(sa * sb) / sc, 0, 0)
        mem = memory(act=np.concatenate([a, c]), tab=entry)
        f = {
            "kind": int(op == "QLinearMul"),
            "b_addr": 65536,
            "dst_addr": 1 << 18,
            "n2": 1,
            "n1": 1,
            "n0": 65536,
            "a_s0": 1,
            "b_s0": 1,
        }
        BUILDERS["VBIN"](mem, b.ins("VBIN", flags=flags, lo=int(lo), hi=int(hi), **f))(0)
        assert (take(mem, Space.ACT, 1 << 18, 65536, t) == expected).all()


def test_fma_rounds_once() -> None:
    """Against exact rationals, on operands where float64 arithmetic alone would round twice."""
    rng = np.random.default_rng(5)
    a = rng.integers(-255, 256, 4000)
    r = (10.0 ** rng.uniform(-12, 6, 4000)).astype(np.float32)
    c = (10.0 ** rng.uniform(-30, 6, 4000) * rng.choice([-1, 1], 4000)).astype(np.float32)
    # ties: a*r exactly halfway between two float32, c far below
    half = rng.integers(2**23, 2**24, 500) * 2 + 1
    r[:500] = (half.astype(np.float64) / 2 / 128).astype(np.float32)
    a[:500] = 255
    got = fma32(a, r, c)
    for x, y, z, g in zip(a.tolist(), r, c, got, strict=True):
        exact = Fraction(x) * Fraction(float(y)) + Fraction(float(z))
        near = [
            Fraction(float(v)) for v in (np.nextafter(g, np.float32(-np.inf)), g, np.nextafter(g, np.float32(np.inf)))
        ]
        best = min(abs(v - exact) for v in near)
        assert abs(Fraction(float(g)) - exact) == best
        if abs(near[0] - exact) == best or abs(near[2] - exact) == best:
            assert int(np.float32(g).view(np.int32)) % 2 == 0  # a tie goes to even


def test_vbin_fixed_and_strides() -> None:
    rng = np.random.default_rng(2)
    a, c = integers(rng, (2, 3, 5), "u8"), integers(rng, (3,), "s8")
    ma, mb, add, shift = 123456, -7654321, 2**30 + 12345, 18
    head = bytes([MODE_FIXED, shift]) + np.array([7, -9, 0], "<i2").tobytes() + np.array([ma, mb], "<i4").tobytes()
    mem = memory(act=np.concatenate([a.ravel(), c.view(np.uint8)]), tab=head + np.array([add, 0], "<i8").tobytes())
    f = {
        "b_addr": 30,
        "dst_addr": 100,
        "n2": 2,
        "n1": 3,
        "n0": 5,
        "a_s2": 15,
        "a_s1": 5,
        "a_s0": 1,
        "b_s1": 1,
        "lo": -128,
        "hi": 127,
    }
    wide, other = a.astype(np.int64), c.astype(np.int64)[None, :, None]
    for kind, expected in ((0, wide * ma + other * mb + add), (1, (wide - 7) * (other + 9) * ma + add)):
        BUILDERS["VBIN"](mem, b.ins("VBIN", flags=Flag.X_UNSIGNED, kind=kind, **f))(0)
        assert (take(mem, Space.ACT, 100, 30, np.int8) == (expected >> shift).clip(-128, 127).ravel()).all()


def test_vacc_wraps() -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(-(2**31), 2**31, 20).astype(np.int32)
    mem = memory(acc=x)
    BUILDERS["VACC"](mem, b.ins("VACC", dst_addr=0, src_addr=40, count=10))(0)
    assert (take(mem, Space.ACC, 0, 10, np.int32) == (x[:10].astype(np.int64) + x[10:]).astype(np.int32)).all()


POOLS = [
    ((3, 3), (2, 2), (1, 1), (1, 0, 1, 1)),
    ((2, 3), (1, 1), (1, 1), (0, 1, 1, 0)),
    ((3, 2), (1, 2), (2, 1), (0, 0, 0, 0)),
]


@pytest.mark.parametrize("kind", ["u8", "s8"])
@pytest.mark.parametrize("kernel,strides,dilations,pads", POOLS)
def test_vpool_max(
    kind: str, kernel: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int], pads: tuple[int, ...]
) -> None:
    from onnx import helper

    x = integers(np.random.default_rng(4), (5, 8, 9), kind)
    node = helper.make_node(
        "MaxPool", ["x"], ["y"], kernel_shape=kernel, strides=strides, dilations=dilations, pads=pads
    )
    expected = ort(node, {"x": x[None]})[0]
    low = np.iinfo(TYPES[kind]).min
    tile = np.pad(x, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3])), constant_values=low)
    mem = memory(act=tile)
    f = pool_fields(tile.shape, kernel, strides, dilations, expected.shape)
    flags = (Flag.X_UNSIGNED | Flag.Y_UNSIGNED) if kind == "u8" else 0
    BUILDERS["VPOOL"](mem, b.ins("VPOOL", flags=flags, lo=int(low), hi=int(low) + 255, **f))(0)
    assert (take(mem, Space.ACT, 1 << 16, expected.size, TYPES[kind]) == expected.ravel()).all()


def pool_fields(tile: Any, kernel: Any, strides: Any, dilations: Any, out: Any) -> dict[str, int]:
    return {
        "c": tile[0], "in_h": tile[1], "in_w": tile[2], "kh": kernel[0], "kw": kernel[1],
        "sh": strides[0], "sw": strides[1], "dh": dilations[0], "dw": dilations[1], "oh": out[1],
        "ow": out[2], "dst_addr": 1 << 16,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["u8", "s8"])
@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize(
    "kernel,strides,pads",
    [((3, 3), (2, 2), (1, 0, 1, 1)), ((2, 2), (2, 2), (0, 0, 0, 0)), ((7, 5), (1, 1), (3, 2, 3, 2))],
)
def test_vpool_average(
    kind: str, include: int, kernel: tuple[int, int], strides: tuple[int, int], pads: tuple[int, ...]
) -> None:
    from onnx import helper

    rng = np.random.default_rng(8)
    t = TYPES[kind]
    lo, hi = int(np.iinfo(t).min), int(np.iinfo(t).max)
    x = integers(rng, (5, 8, 9), kind)
    for _ in range(8):
        xs, ys = (10.0 ** rng.uniform(-3, -1, 2)).astype(np.float32)
        zx, zy = (int(v) for v in rng.integers(lo, hi + 1, 2))
        node = helper.make_node(
            "QLinearAveragePool", ["x", "xs", "xz", "ys", "yz"], ["y"], domain="com.microsoft",
            kernel_shape=kernel, strides=strides, pads=pads, count_include_pad=include,
        )  # fmt: skip
        feed = {"x": x[None], "xs": np.array(xs), "xz": np.array(t(zx)), "ys": np.array(ys), "yz": np.array(t(zy))}
        expected = ort(node, feed)[0]
        tile = np.pad(x, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3])), constant_values=99)
        tab = np.array([xs, ys], "<f4").tobytes() + np.array([zx, zy], "<i2").tobytes() + bytes(4)
        mem = memory(act=tile, tab=tab)
        f = pool_fields(tile.shape, kernel, strides, (1, 1), expected.shape)
        valid = {"top": pads[0], "left": pads[1], "bottom": pads[0] + 8, "right": pads[1] + 9}
        count = {"top": 0, "left": 0, "bottom": tile.shape[1], "right": tile.shape[2]} if include else valid
        f |= {f"valid_{k}": v for k, v in valid.items()} | {f"count_{k}": v for k, v in count.items()}
        flags = (Flag.X_UNSIGNED | Flag.Y_UNSIGNED) if kind == "u8" else 0
        BUILDERS["VPOOL"](mem, b.ins("VPOOL", flags=flags, kind=1, lo=lo, hi=hi, **f))(0)
        assert (take(mem, Space.ACT, 1 << 16, expected.size, t) == expected.ravel()).all()


@pytest.mark.parametrize("kind", ["u8", "s8"])
def test_vsum_and_vreq_are_global_average(kind: str) -> None:
    from onnx import helper

    rng = np.random.default_rng(9)
    t = TYPES[kind]
    lo, hi = int(np.iinfo(t).min), int(np.iinfo(t).max)
    x = integers(rng, (6, 7, 7), kind)
    xs, ys, zx, zy = np.float32(0.021), np.float32(0.0063), 17, 5
    node = helper.make_node("QLinearGlobalAveragePool", ["x", "xs", "xz", "ys", "yz"], ["y"], domain="com.microsoft")
    feed = {"x": x[None], "xs": np.array(xs), "xz": np.array(t(zx)), "ys": np.array(ys), "yz": np.array(t(zy))}
    expected = ort(node, feed)[0]
    entries = np.zeros(6, ENTRY)
    entries["scale"] = np.float32(xs / (ys * np.float32(49))).view(np.int32)
    entries["mode"] = MODE_FP32
    bias = np.full(6, -zx * 49, np.int32)
    mem = memory(act=x, tab=entries.tobytes() + bias.tobytes())
    signs = Flag.X_UNSIGNED if kind == "u8" else 0
    half = {"tab_addr": 96, "count": 49}
    BUILDERS["VSUM"](mem, b.ins("VSUM", flags=signs | Flag.INIT | Flag.BIAS, c=6, **half))(0)
    y = Flag.Y_UNSIGNED if kind == "u8" else 0
    build_vreq(mem, b.ins("VREQ", flags=y, m=6, count=1, zero_point=zy, lo=lo, hi=hi, dst_addr=4096))(0)
    assert (take(mem, Space.ACT, 4096, 6, t) == expected.ravel()).all()
    BUILDERS["VSUM"](mem, b.ins("VSUM", flags=signs, c=6, count=49))(0)
    assert (take(mem, Space.ACC, 0, 6, np.int32) == 2 * x.astype(np.int32).sum((1, 2)) - 49 * zx).all()


def test_vcopy_transposes_reverses_and_maps() -> None:
    rng = np.random.default_rng(6)
    x = integers(rng, (2, 3, 4, 5), "u8")
    tables = integers(rng, (2, 256), "u8")
    mem = memory(act=x, tab=tables)
    f = {"n3": 2, "n2": 3, "n1": 4, "n0": 5, "src_addr": 4, "src_s3": 60, "src_s2": 20, "src_s1": 5, "src_s0": -1}
    f |= {"dst_addr": 1000, "dst_s3": 1, "dst_s2": 2, "dst_s1": 6, "dst_s0": 24}
    want = x[..., ::-1].transpose(3, 2, 1, 0)
    BUILDERS["VCOPY"](mem, b.ins("VCOPY", **f))(0)
    assert (take(mem, Space.ACT, 1000, 120, np.uint8) == want.ravel()).all()
    for stride in (0, 256):
        BUILDERS["VCOPY"](mem, b.ins("VCOPY", flags=Flag.TABLE, table_stride=stride, **f))(0)
        mapped = np.stack([tables[1 if stride and i else 0][x[i]] for i in range(2)])[..., ::-1].transpose(3, 2, 1, 0)
        assert (take(mem, Space.ACT, 1000, 120, np.uint8) == mapped.ravel()).all()
    with pytest.raises(Fault):
        BUILDERS["VCOPY"](mem, b.ins("VCOPY", **(f | {"dst_s0": 0})))
    with pytest.raises(Fault):
        BUILDERS["VCOPY"](mem, b.ins("VCOPY", flags=Flag.TABLE, table_stride=1, **f))


@pytest.mark.parametrize("kind", ["u8", "s8"])
@pytest.mark.parametrize("last", [0, 1])
def test_varg(kind: str, last: int) -> None:
    from onnx import helper

    x = (integers(np.random.default_rng(3), (3, 7, 4), kind) // 32).astype(TYPES[kind])  # many ties
    node = helper.make_node("ArgMax", ["x"], ["y"], axis=1, keepdims=0, select_last_index=last)
    mem = memory(act=x)
    flags = (Flag.X_UNSIGNED if kind == "u8" else 0) | (Flag.LAST if last else 0)
    BUILDERS["VARG"](mem, b.ins("VARG", flags=flags, dst_addr=999, outer=3, axis=7, inner=4))(0)
    assert (take(mem, Space.ACT, 999, 12, np.int64) == ort(node, {"x": x}).ravel()).all()


def test_vfill() -> None:
    mem = memory()
    BUILDERS["VFILL"](mem, b.ins("VFILL", dst_addr=5, count=3, value=200))(0)
    assert take(mem, Space.ACT, 5, 3, np.uint8).tolist() == [200] * 3
    with pytest.raises(Fault):
        mem[Space.ACT].range(4, 4, 0)
