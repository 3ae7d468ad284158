"""What each unit of a netlist computes, exactly as docs/streaming.md writes it: frames in, frames out.

A frame of a stream is a flat array of integers in the order in which the elements pass. `kernel` checks what does not
depend on data and gives the function; memories come as bytes by slot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.executor.exact import VBIN_ENTRY, binary_table
from compiler.executor.faults import ILLEGAL, Fault
from compiler.isa.program import Instruction
from compiler.isa.stream.ports import container_bytes, operand, sum_bytes
from compiler.isa.stream.table import CONSTANT, COPY_WORDS, DRAM, MAX_DIMS
from compiler.isa.table import MODE_EVEN, MODE_FIXED, MODE_FP32, MODE_THRESHOLD

Array = NDArray[Any]
Kernel = Callable[[list[Array]], list[Array]]
I64 = np.int64
UNPACKED_AT_ONCE = 1 << 12  # words of a memory
VREQ_ENTRY = np.dtype([("scale", "<i4"), ("shift", "u1"), ("mode", "u1"), ("steps", "<u2"), ("add", "<i8")])
VPOOL_ENTRY = np.dtype([("xs", "<f4"), ("ys", "<f4"), ("zx", "<i2"), ("zy", "<i2"), ("zero", "S4")])


def value_range(bits: int, signed: bool) -> tuple[int, int]:
    """Least and greatest value of an element; one signed bit is bipolar."""
    if bits == 1 and signed:
        return (-1, 1)
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def wrap(acc: Array, bits: int, signed: bool) -> Array:
    """The lowest `bits` of each integer, as a number of that type."""
    if bits >= 64:
        return acc
    low: Array = acc.astype(I64) & ((1 << bits) - 1)
    return low - ((low >> (bits - 1)) << bits) if signed else low


def kernel(ins: Instruction, slots: dict[int, bytes]) -> Kernel:
    """The function of a unit (SRC and SNK are the boundary's matter)."""
    return _KERNELS[ins.op](ins.fields, slots)


def _images(f: dict[str, int]) -> int:
    """Images that a frame has, one after the other."""
    return 1 + f.get("more", 0)


def _pad(f: dict[str, int], _: dict[int, bytes]) -> Kernel:
    edge = ((0, 0), (f["top"], f["bottom"]), (f["left"], f["right"]), (0, 0))
    shape = (_images(f), f["in_h"], f["in_w"], f["channels"])
    return lambda x: [np.pad(x[0].reshape(shape), edge, constant_values=f["fill"]).reshape(-1)]


def _win(f: dict[str, int], _: dict[int, bytes]) -> Kernel:
    blocks, block = f["channels"] // f["block"], f["block"]
    rows, columns = (f["oh"] - 1) * f["sh"] + 1, (f["ow"] - 1) * f["sw"] + 1

    def run(x: list[Array]) -> list[Array]:
        image = x[0].reshape(_images(f), f["in_h"], f["in_w"], blocks, block)
        out = np.empty((len(image), f["oh"], f["ow"], blocks, f["kh"], f["kw"], block), image.dtype)
        for i in range(f["kh"]):
            for j in range(f["kw"]):
                top, left = i * f["dh"], j * f["dw"]
                out[:, :, :, :, i, j] = image[:, top : top + rows : f["sh"], left : left + columns : f["sw"]]
        return [out.reshape(-1)]

    return run


def _weights(f: dict[str, int], slots: dict[int, bytes], shape: tuple[int, ...], rows: int) -> tuple[Array, Array]:
    w = np.zeros(shape, I64)  # out of DRAM: with the frame
    if f["memory"] != DRAM:
        w = np.frombuffer(slots[0], f"<i{container_bytes(f['w_bits'])}").reshape(shape).astype(I64)
        _held(f, w)
    kind = f"<i{sum_bytes(f['y_bits'])}"
    start = np.frombuffer(slots[1], kind).astype(I64) if f["bias"] else np.zeros(rows, I64)
    return w, start


def _held(f: dict[str, int], w: Array) -> None:
    """Raises Fault for weights that are none of `w_bits` bits."""
    low, high = value_range(f["w_bits"], True)
    if w.size and (int(w.min()) < low or int(w.max()) > high or (f["w_bits"] == 1 and not w.all())):
        raise Fault(ILLEGAL, f"has weights that do not fit {f['w_bits']} bits")


def _turn(f: dict[str, int], words: Array, lanes: int) -> Array:
    """The weights of one turn out of those of a frame, (turns, weights): every turn must bring the same."""
    if words.ndim != 2 or words.shape[0] != f["pixels"] or words.shape[1] % lanes:
        raise Fault(ILLEGAL, f"takes weights of {f['pixels']} turns, {words.shape} came")
    if words.strides[0] and (words != words[:1]).any():
        raise Fault(ILLEGAL, "takes weights that change within a frame")
    _held(f, words[0])
    turn: Array = words[0]
    return turn


def _mem(f: dict[str, int], slots: dict[int, bytes]) -> Kernel:
    """Slot 0: what lies in the bank. Words of whole bytes, the first weight in the lowest bits; gives (turns, weights)
    whose turns are one and the same memory."""
    size = -(-f["pe"] * f["x_bits"] // 8)
    raw = np.frombuffer(slots[0], np.uint8).reshape(f["words"], size)
    if f["x_bits"] == 8 and f["x_signed"]:
        value = raw.view(np.int8).reshape(-1)
    else:  # some words at a time: as single bits they take eight times the room and more
        some = [_unpacked(f, raw[k : k + UNPACKED_AT_ONCE]) for k in range(0, f["words"], UNPACKED_AT_ONCE)]
        value = np.concatenate(some)
    turns = np.broadcast_to(value, (f["turns"], value.size))
    return lambda _: [turns]


def _unpacked(f: dict[str, int], raw: Array) -> Array:
    bits = f["x_bits"]
    each = np.unpackbits(raw, axis=1, bitorder="little")[:, : f["pe"] * bits].reshape(-1, bits).astype(I64)
    value = (each << np.arange(bits)).sum(axis=1)
    if f["x_signed"]:
        value = 2 * value - 1 if bits == 1 else value - (each[:, -1] << bits)
    small: Array = value.astype(np.int8) if f["x_signed"] and bits <= 8 else value
    return small


def _mvau(f: dict[str, int], slots: dict[int, bytes]) -> Kernel:
    groups, mh, mw = f["groups"], f["mh"], f["mw"]
    w, start = _weights(f, slots, (groups, mh, mw), groups * mh)
    heaviest = 1 << f["w_bits"] - 1 if f["memory"] == DRAM else int(np.abs(w).max(initial=0))
    peak = heaviest * max(abs(v) for v in value_range(f["x_bits"], bool(f["x_signed"]))) * mw
    if peak >= 1 << 53:
        raise Fault(ILLEGAL, "has sums beyond 53 bits")
    kind = np.float32 if peak < 1 << 24 else np.float64
    known = None if f["memory"] == DRAM else w.transpose(0, 2, 1).astype(kind)

    def run(x: list[Array]) -> list[Array]:
        if known is None:
            folded = _turn(f, x[1], f["pe"] * f["simd"]).reshape(
                groups, mh // f["pe"], mw // f["simd"], f["pe"], f["simd"]
            )
            real = folded.transpose(0, 2, 4, 1, 3).reshape(groups, mw, mh).astype(kind)
        else:
            real = known
        vectors = x[0].reshape(f["pixels"], groups, mw).transpose(1, 0, 2).astype(kind)
        acc = np.rint(np.matmul(vectors, real)).astype(I64).transpose(1, 0, 2).reshape(f["pixels"], -1)
        return [wrap(acc + start, f["y_bits"], bool(f["y_signed"])).reshape(-1)]

    return run


def _vvau(f: dict[str, int], slots: dict[int, bytes]) -> Kernel:
    w, start = _weights(f, slots, (f["channels"], f["taps"]), f["channels"])
    folded = w.reshape(-1, f["pe"], f["taps"]).transpose(0, 2, 1)  # [channels/pe][taps][pe]

    def run(x: list[Array]) -> list[Array]:
        taps = x[0].reshape(f["pixels"], -1, f["taps"], f["pe"]).astype(I64)
        own = folded
        if f["memory"] == DRAM:
            words = _turn(f, x[1], f["pe"] * f["simd"])
            lanes = words.reshape(-1, f["taps"] // f["simd"], f["pe"], f["simd"])
            own = lanes.transpose(0, 1, 3, 2).reshape(-1, f["taps"], f["pe"])
        acc = np.einsum("pctk,ctk->pck", taps, own).reshape(f["pixels"], -1)
        return [wrap(acc + start, f["y_bits"], bool(f["y_signed"])).reshape(-1)]

    return run


def _req(f: dict[str, int], slots: dict[int, bytes]) -> Kernel:
    """VREQ of machine.md, a row a channel."""
    count, lo, hi, zero = f["channels"], f["lo"], f["hi"], f["zero_point"]
    entries = np.frombuffer(slots[0], VREQ_ENTRY, count)
    scale = np.ascontiguousarray(entries["scale"]).view(np.float32)
    if (entries["mode"] > MODE_EVEN).any() or (entries["shift"] > 63).any():
        raise Fault(ILLEGAL, "has a requantiser entry with an unknown mode or a shift beyond 63")
    real = entries["mode"] == MODE_FP32
    if not np.isfinite(scale[real]).all():
        raise Fault(ILLEGAL, "has a float requantiser scale that is not finite")
    steps = {}
    for c in np.flatnonzero(entries["mode"] == MODE_THRESHOLD):
        at, size = int(entries["add"][c]), 4 * int(entries["steps"][c])
        if at < 0 or at + size > len(slots[0]):
            raise Fault(ILLEGAL, f"has thresholds of channel {c} outside its memory")
        steps[int(c)] = np.frombuffer(slots[0][at : at + size], "<i4")
        if (steps[int(c)][1:] < steps[int(c)][:-1]).any():
            raise Fault(ILLEGAL, f"has thresholds of channel {c} that do not ascend")
    fixed = np.flatnonzero(np.isin(entries["mode"], (MODE_FIXED, MODE_EVEN)))
    even = entries["mode"][fixed] == MODE_EVEN

    def run(x: list[Array]) -> list[Array]:
        acc = x[0].reshape(f["pixels"], count)
        out = np.empty(acc.shape, I64)
        v = acc[:, fixed].astype(I64) * entries["scale"][fixed].astype(I64) + entries["add"][fixed]
        shift = entries["shift"][fixed].astype(I64)
        rounded = v >> shift
        if even.any():
            half = (v & ((I64(1) << shift) - 1)) == 0
            rounded -= half & even & (rounded & 1 == 1)
        out[:, fixed] = np.clip(rounded, lo, hi)
        if real.any():
            with np.errstate(over="ignore"):
                r = np.rint(acc[:, real].astype(np.float32) * scale[real])
            out[:, real] = np.clip(r, lo - zero, hi - zero).astype(I64) + zero
        for c, values in steps.items():
            passed = np.searchsorted(values, acc[:, c], side="right")
            out[:, c] = np.clip(int(entries["scale"][c]) + passed, lo, hi)
        return [out.reshape(-1)]

    return run


def _thr(f: dict[str, int], slots: dict[int, bytes]) -> Kernel:
    kind = f"<i{sum_bytes(f['x_bits'])}"
    values = np.frombuffer(slots[0], kind).reshape(f["channels"], f["steps"]).astype(I64)
    if (values[:, 1:] < values[:, :-1]).any():
        raise Fault(ILLEGAL, "has thresholds that do not ascend")

    def run(x: list[Array]) -> list[Array]:
        acc = x[0].reshape(f["pixels"], f["channels"])
        out = np.empty(acc.shape, I64)
        for c in range(f["channels"]):
            out[:, c] = np.searchsorted(values[c], acc[:, c], side="right")
        return [(f["base"] + f["step"] * out).reshape(-1)]

    return run


def _tab(f: dict[str, int], slots: dict[int, bytes]) -> Kernel:
    table = np.frombuffer(slots[0], np.int8 if f["y_signed"] else np.uint8).reshape(f["tables"], 256)

    def run(x: list[Array]) -> list[Array]:
        byte = (x[0] & 0xFF).reshape(f["pixels"], f["channels"])
        row = np.zeros(1, I64) if f["tables"] == 1 else np.arange(f["channels"])
        return [table[row, byte].astype(I64).reshape(-1)]

    return run


def _pool(f: dict[str, int], slots: dict[int, bytes]) -> Kernel:
    shape = (_images(f) * f["pixels"], f["channels"] // f["pe"], f["taps"], f["pe"])
    if not f["kind"]:
        return lambda x: [np.clip(x[0].reshape(shape).max(axis=2), f["lo"], f["hi"]).reshape(-1)]
    entry = np.frombuffer(slots[0], VPOOL_ENTRY)[0]
    divisor = np.tile(np.frombuffer(slots[1], "<u2").astype(np.float32), _images(f)).reshape(-1, 1, 1)
    xs, ys = entry["xs"], entry["ys"]
    if not (np.isfinite(xs) and np.isfinite(ys) and ys > 0) or not divisor.all():
        raise Fault(ILLEGAL, f"has the scales {xs} and {ys}, or divides by zero taps")

    def run(x: list[Array]) -> list[Array]:
        real = xs * (x[0].reshape(shape) - int(entry["zx"])).astype(np.float32)
        total = np.zeros((shape[0], shape[1], shape[3]), np.float32)
        for t in range(f["taps"]):
            total += real[:, :, t]
        y = np.rint((total / divisor) / ys + np.float32(int(entry["zy"])))
        return [np.clip(y, f["lo"], f["hi"]).astype(I64).reshape(-1)]

    return run


def _sum(f: dict[str, int], slots: dict[int, bytes]) -> Kernel:
    start = np.frombuffer(slots[0], "<i4").astype(I64) if f["bias"] else np.zeros(f["channels"], I64)

    def run(x: list[Array]) -> list[Array]:
        total = x[0].reshape(_images(f), f["pixels"], f["channels"]).astype(I64).sum(axis=1) + start
        return [wrap(total, f["y_bits"], bool(f["y_signed"])).reshape(-1)]

    return run


def _bin(f: dict[str, int], slots: dict[int, bytes]) -> Kernel:
    if f["x_bits"] > 8 or f["y_bits"] > 8:
        return _wide_sum(f, slots[0])
    table = binary_table(f["kind"], slots[0], not f["x_signed"], not f["b_signed"], f["lo"], f["hi"])
    kept = {}
    for k, side in enumerate("ab"):
        if f[f"{side}_shape"] & CONSTANT:
            kept[side] = np.frombuffer(slots[k + 1], np.uint8).reshape(operand(f, side))

    def run(x: list[Array]) -> list[Array]:
        streams = iter(x)
        sides = []
        for side in "ab":
            raw = kept[side] if side in kept else (next(streams) & 0xFF).reshape(-1, *operand(f, side))
            sides.append(np.broadcast_to(raw.astype(np.uint16), (_images(f), f["pixels"], f["channels"])))
        y = table[(sides[0] << 8) | sides[1]]
        return [(y.view(np.int8) if f["y_signed"] else y).astype(I64).reshape(-1)]

    return run


def _wide_sum(f: dict[str, int], entry: bytes) -> Kernel:
    """The fixed form of an addition, on operands of up to 16 bits."""
    e = np.frombuffer(entry, VBIN_ENTRY)[0]
    if int(e["mode"]) != MODE_FIXED or int(e["shift"]) > 63:
        raise Fault(ILLEGAL, "adds integers wider than bytes by another form than fixed point")
    ma, mb, add, shift = (I64(int(e[k])) for k in ("ma", "mb", "add", "shift"))

    def run(x: list[Array]) -> list[Array]:
        a, b = (
            np.broadcast_to(v.reshape(operand(f, s)), (f["pixels"], f["channels"]))
            for v, s in zip(x, "ab", strict=True)
        )
        y = (a.astype(I64) * ma + b.astype(I64) * mb + add) >> shift
        return [np.clip(y, f["lo"], f["hi"]).reshape(-1)]

    return run


def _cat(f: dict[str, int], _: dict[int, bytes]) -> Kernel:
    return lambda x: [np.concatenate([v.reshape(f["pixels"], -1) for v in x], axis=1).reshape(-1)]


def _add(f: dict[str, int], _: dict[int, bytes]) -> Kernel:
    return lambda x: [wrap(np.sum([v.astype(I64) for v in x], axis=0), f["y_bits"], bool(f["y_signed"]))]


def _dup(f: dict[str, int], _: dict[int, bytes]) -> Kernel:
    return lambda x: [x[0]] * f["outputs"]


def _same(f: dict[str, int], _: dict[int, bytes]) -> Kernel:
    return lambda x: [x[0]]


def _crop(f: dict[str, int], _: dict[int, bytes]) -> Kernel:
    rows = slice(f["top"], f["top"] + (f["oh"] - 1) * f["sh"] + 1, f["sh"])
    columns = slice(f["left"], f["left"] + (f["ow"] - 1) * f["sw"] + 1, f["sw"])
    channels = slice(f["first"], f["first"] + f["kept"])
    shape = (_images(f), f["in_h"], f["in_w"], f["channels"])
    return lambda x: [np.ascontiguousarray(x[0].reshape(shape)[:, rows, columns, channels]).reshape(-1)]


def _ups(f: dict[str, int], _: dict[int, bytes]) -> Kernel:
    shape = (_images(f), f["in_h"], f["in_w"], f["channels"])
    return lambda x: [x[0].reshape(shape).repeat(f["fh"], axis=1).repeat(f["fw"], axis=2).reshape(-1)]


def _buf(f: dict[str, int], slots: dict[int, bytes]) -> Kernel:
    """The address generator as one index: for each output element the input element, or the fill."""
    words = np.frombuffer(slots[0], "<i8")
    inputs = f["inputs"]
    shapes = words[: 4 * (inputs + 1)].reshape(inputs + 1, 4)
    sizes = [f[f"n{k}"] for k in range(inputs)]
    if [int(np.prod(s)) for s in shapes] != [*sizes, f["elements"]] or (shapes < 1).any():
        raise Fault(ILLEGAL, "has buffers of another size than its streams")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    index = np.full(f["elements"], -1, I64)
    table_of = np.full(f["elements"], -1, I64)
    tables = np.frombuffer(slots.get(1, b""), np.uint8).reshape(-1, 256)
    for row in words[4 * (inputs + 1) :].reshape(f["copies"], COPY_WORDS).tolist():
        source, dims, src, dst, table = row[:5]
        if not 0 <= source < inputs or not 1 <= dims <= MAX_DIMS or not -1 <= table < len(tables):
            raise Fault(ILLEGAL, "has a copy of an unknown source, table or form")
        counts = row[5 : 5 + dims]
        a = np.full(counts, src, I64)
        b = np.full(counts, dst, I64)
        for d in range(dims):
            step = np.arange(counts[d]).reshape([-1 if k == d else 1 for k in range(dims)])
            a += step * row[5 + MAX_DIMS + d]
            b += step * row[5 + 2 * MAX_DIMS + d]
        if a.size and (a.min() < 0 or a.max() >= sizes[source] or b.min() < 0 or b.max() >= f["elements"]):
            raise Fault(ILLEGAL, "has a copy that leaves its buffer")
        index[b.reshape(-1)] = starts[source] + a.reshape(-1)
        table_of[b.reshape(-1)] = table
    n, c, h, w = shapes[-1].tolist()

    def stored(values: Array, shape: Array) -> Array:
        m, ch, hh, ww = shape.tolist()
        return values.reshape(m, hh, ww, ch).transpose(0, 3, 1, 2).reshape(-1)

    def one(x: list[Array]) -> Array:
        pool = np.concatenate([stored(v, s) for v, s in zip(x, shapes[:-1], strict=True)]).astype(I64)
        out = np.where(index >= 0, pool[np.maximum(index, 0)], f["fill"])
        for t in np.unique(table_of[table_of >= 0]):
            where = table_of == t
            mapped = tables[t][out[where] & 0xFF]
            out[where] = mapped.view(np.int8) if f["x_signed"] else mapped
        return np.ascontiguousarray(out.reshape(n, c, h, w).transpose(0, 2, 3, 1)).reshape(-1)

    def run(x: list[Array]) -> list[Array]:
        each = zip(*(np.split(v, _images(f)) for v in x), strict=True)
        return [np.concatenate([one(list(image)) for image in each])]

    return run


def _arg(f: dict[str, int], _: dict[int, bytes]) -> Kernel:
    def run(x: list[Array]) -> list[Array]:
        v = x[0].reshape(f["pixels"], f["channels"])
        last = f["channels"] - 1 - v[:, ::-1].argmax(axis=1)
        return [(last if f["last"] else v.argmax(axis=1)).astype(I64)]

    return run


_KERNELS: dict[str, Callable[[dict[str, int], dict[int, bytes]], Kernel]] = {
    "PAD": _pad, "WIN": _win, "MVAU": _mvau, "VVAU": _vvau, "REQ": _req, "THR": _thr, "TAB": _tab, "POOL": _pool,
    "SUM": _sum, "BIN": _bin, "CAT": _cat, "DUP": _dup, "DWC": _same, "CROP": _crop, "UPS": _ups, "BUF": _buf,
    "ARG": _arg, "ADD": _add, "MEM": _mem,
}  # fmt: skip
