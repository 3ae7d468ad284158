"""What a unit's fields demand of its streams and memories: ports by number, preload slots by size.

A stream of a frame is `words` words of `pe` elements of `bits` bits. Units that break a rule of docs/streaming.md
(a fold that does not divide, a window that leaves its image) raise `Illegal`.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.isa.program import Instruction
from compiler.isa.stream.table import (
    BRAM,
    CONSTANT,
    COPY_WORDS,
    DRAM,
    LUTRAM,
    MAX_INPUTS,
    ONE_CHANNEL,
    ONE_POSITION,
    URAM,
)
from compiler.isa.table import VBIN_ENTRY_BYTES, VPOOL_ENTRY_BYTES, VREQ_ENTRY_BYTES

BRIDGE_LUTRAM_BITS, BRIDGE_URAM_BITS = 1 << 15, 1 << 20  # as for other frame buffers; one URAM holds 288 Kb


class Illegal(Exception):
    """A unit that cannot be built; the text says why."""


@dataclass(frozen=True, slots=True)
class Port:
    """One stream end: elements a word, bits and sign of an element, words a frame."""

    pe: int
    bits: int
    signed: bool
    words: int

    @property
    def width_bits(self) -> int:
        return self.pe * self.bits


@dataclass(frozen=True, slots=True)
class Ports:
    """Streams in and out by port number; slots: preload slot -> (least bytes, exact)."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    slots: dict[int, tuple[int, bool]]


def _need(holds: bool, text: str) -> None:
    if not holds:
        raise Illegal(text)


def _divides(part: int, whole: int, what: str) -> None:
    _need(part > 0 and whole > 0 and whole % part == 0, f"{part} does not divide {what} = {whole}")


def container_bytes(bits: int) -> int:
    """Bytes of an element in a message."""
    return -(-bits // 8)


def sum_bytes(bits: int) -> int:
    """Bytes of a bias or threshold in memory, for accumulators of so many bits."""
    return 8 if bits > 32 else 4


def ports(ins: Instruction) -> Ports:
    """Ports and preload slots of a unit. Raises Illegal."""
    f = ins.fields
    for name in ("bits", "x_bits", "y_bits"):
        _need(0 < f.get(name, 1) <= 64, f"{name} = {f.get(name)} is no width")
    return _RULES[ins.op](f)


def _x(f: dict[str, int], pe: int, words: int) -> Port:
    return Port(pe, f["x_bits"], bool(f["x_signed"]), words)


def _y(f: dict[str, int], pe: int, words: int) -> Port:
    return Port(pe, f["y_bits"], bool(f["y_signed"]), words)


def images(f: dict[str, int]) -> int:
    """Images of a frame, of each of which a unit's fields speak; one where it knows none."""
    return f.get("more", 0) + 1


def _folded(f: dict[str, int]) -> int:
    """Words of a frame of images x pixels x channels."""
    _divides(f["pe"], f["channels"], "the channels")
    _need(f["pixels"] > 0, "no position")
    return images(f) * f["pixels"] * f["channels"] // f["pe"]


def _boundary(f: dict[str, int], out: bool) -> Ports:
    words = _folded(f)
    port = Port(f["pe"], f["bits"], bool(f["signed"]), words)
    size = f["pixels"] * f["channels"] * container_bytes(f["bits"])
    _need(f["bytes"] == size, f"its message has {f['bytes']} bytes, a frame {size}")
    return Ports((), (port,), {}) if out else Ports((port,), (), {})


def _bridge(f: dict[str, int], out: bool) -> Ports:
    _divides(f["pe"], f["channels"], "the channels")
    _need(min(f["images"], f["in_h"], f["in_w"]) > 0, "an empty tensor")
    _need(f["frames"] > 1, "fewer than two frame slots")
    port = Port(f["pe"], f["bits"], bool(f["signed"]), frame_elements(f) // f["pe"])
    return Ports((), (port,), {}) if out else Ports((port,), (), {})


def frame_elements(f: dict[str, int]) -> int:
    """Elements of a bridge's tensor."""
    return f["images"] * f["channels"] * f["in_h"] * f["in_w"]


def frame_memory(f: dict[str, int], has_uram: bool) -> int:
    """Where a bridge's frame buffer stands: LUTRAM while it is small, URAM where it is large and there is some."""
    bits = f["frames"] * frame_elements(f) * f["bits"]
    if bits <= BRIDGE_LUTRAM_BITS:
        return LUTRAM
    return URAM if bits >= BRIDGE_URAM_BITS and has_uram else BRAM


def _pad(f: dict[str, int]) -> Ports:
    _divides(f["pe"], f["channels"], "the channels")
    _need(min(f["in_h"], f["in_w"]) > 0, "an empty image")
    folds = images(f) * f["channels"] // f["pe"]
    tall, wide = f["in_h"] + f["top"] + f["bottom"], f["in_w"] + f["left"] + f["right"]
    return Ports((_x(f, f["pe"], f["in_h"] * f["in_w"] * folds),), (_x(f, f["pe"], tall * wide * folds),), {})


def _win(f: dict[str, int]) -> Ports:
    _divides(f["pe"], f["block"], "the block")
    _divides(f["block"], f["channels"], "the channels")
    _need(min(f[k] for k in ("kh", "kw", "sh", "sw", "dh", "dw", "oh", "ow")) > 0, "a window of nothing")
    reach_h = (f["oh"] - 1) * f["sh"] + (f["kh"] - 1) * f["dh"] + 1
    reach_w = (f["ow"] - 1) * f["sw"] + (f["kw"] - 1) * f["dw"] + 1
    _need(reach_h <= f["in_h"] and reach_w <= f["in_w"], "its last window leaves the image")
    taps = f["kh"] * f["kw"]
    whole = f["pe"] == f["block"] and f["pe_out"] == f["block"] * taps
    _need(f["pe_out"] == f["pe"] or whole, "an output word is neither one input word nor a whole window")
    words_in = images(f) * f["in_h"] * f["in_w"] * f["channels"] // f["pe"]
    words_out = images(f) * f["oh"] * f["ow"] * taps * f["channels"] // f["pe_out"]
    return Ports((_x(f, f["pe"], words_in),), (_x(f, f["pe_out"], words_out),), {})


def _weights_slots(f: dict[str, int], elements: int, rows: int) -> dict[int, tuple[int, bool]]:
    _need(0 < f["w_bits"] <= 16, f"weights of {f['w_bits']} bits")
    slots = {} if f["memory"] == DRAM else {0: (elements * container_bytes(f["w_bits"]), True)}
    if f["bias"]:
        slots[1] = (sum_bytes(f["y_bits"]) * rows, True)
    return slots


def _mvau(f: dict[str, int]) -> Ports:
    _divides(f["pe"], f["mh"], "the rows")
    _divides(f["simd"], f["mw"], "the columns")
    _need(f["pixels"] > 0 and f["groups"] > 0, "no position or no group")
    vectors = f["pixels"] * f["groups"]
    slots = _weights_slots(f, f["groups"] * f["mh"] * f["mw"], f["groups"] * f["mh"])
    x = _x(f, f["simd"], vectors * f["mw"] // f["simd"])
    read = _read(f, vectors * (f["mh"] // f["pe"]) * (f["mw"] // f["simd"]))
    return Ports((x, *read), (_y(f, f["pe"], vectors * f["mh"] // f["pe"]),), slots)


def _read(f: dict[str, int], words: int) -> tuple[Port, ...]:
    """The port for weights out of DRAM."""
    return (Port(f["pe"] * f["simd"], f["w_bits"], True, words),) if f["memory"] == DRAM else ()


def _mem(f: dict[str, int]) -> Ports:
    _need(f["pe"] > 0 and f["words"] > 0 and f["turns"] > 0, "it reads nothing")
    _need(f["x_bits"] <= 16, f"weights of {f['x_bits']} bits")
    size = f["words"] * -(-f["pe"] * f["x_bits"] // 8)
    return Ports((), (_x(f, f["pe"], f["turns"] * f["words"]),), {0: (size, True)})


def _vvau(f: dict[str, int]) -> Ports:
    words = _folded(f)
    _need(f["simd"] in (1, f["taps"]) and f["taps"] > 0, f"{f['simd']} taps at once, 1 or {f['taps']} are possible")
    slots = _weights_slots(f, f["channels"] * f["taps"], f["channels"])
    x = _x(f, f["pe"] * f["simd"], words * f["taps"] // f["simd"])
    return Ports((x, *_read(f, x.words)), (_y(f, f["pe"], words),), slots)


def _alike(f: dict[str, int], slots: dict[int, tuple[int, bool]]) -> Ports:
    words = _folded(f)
    return Ports((_x(f, f["pe"], words),), (_y(f, f["pe"], words),), slots)


def value_range(bits: int, signed: bool) -> tuple[int, int]:
    """Least and greatest value of an element; one signed bit is bipolar."""
    if not signed:
        return 0, (1 << bits) - 1
    return (-1, 1) if bits == 1 else (-(1 << bits - 1), (1 << bits - 1) - 1)


def _range(f: dict[str, int]) -> tuple[int, int]:
    return value_range(f["y_bits"], bool(f["y_signed"]))


def _clamp(f: dict[str, int]) -> None:
    low, high = _range(f)
    _need(low <= f["lo"] <= f["hi"] <= high, f"clamps to [{f['lo']}, {f['hi']}], no range within [{low}, {high}]")


def _req(f: dict[str, int]) -> Ports:
    _clamp(f)
    return _alike(f, {0: (VREQ_ENTRY_BYTES * f["channels"], False)})


def _thr(f: dict[str, int]) -> Ports:
    _need(f["steps"] > 0 and f["step"] > 0, "no threshold")
    low, high = _range(f)
    top = f["base"] + f["step"] * f["steps"]
    _need(low <= f["base"] and top <= high, f"results {f['base']}..{top} do not fit {f['y_bits']} bits")
    return _alike(f, {0: (sum_bytes(f["x_bits"]) * f["channels"] * f["steps"], True)})


def _tab(f: dict[str, int]) -> Ports:
    _need(f["tables"] in (1, f["channels"]), "neither one table nor one a channel")
    _need(f["x_bits"] == 8 and f["y_bits"] <= 8, "a table maps bytes")
    return _alike(f, {0: (256 * f["tables"], True)})


def _pool(f: dict[str, int]) -> Ports:
    _clamp(f)
    words = _folded(f)
    _need(f["taps"] > 0 and f["kind"] < 2, "no tap, or an unknown kind")
    slots = {0: (VPOOL_ENTRY_BYTES, True), 1: (2 * f["pixels"], True)} if f["kind"] else {}
    return Ports((_x(f, f["pe"], words * f["taps"]),), (_y(f, f["pe"], words),), slots)


def _sum(f: dict[str, int]) -> Ports:
    words = _folded(f)
    slots = {0: (4 * f["channels"], True)} if f["bias"] else {}
    return Ports((_x(f, f["pe"], words),), (_y(f, f["pe"], words // f["pixels"]),), slots)


def operand(f: dict[str, int], side: str) -> tuple[int, int]:
    """(positions, channels) of BIN's operand a or b, of an image; a constant is that of every image."""
    shape = f[f"{side}_shape"]
    return 1 if shape & ONE_POSITION else f["pixels"], 1 if shape & ONE_CHANNEL else f["channels"]


def _bin(f: dict[str, int]) -> Ports:
    _clamp(f)
    words = _folded(f)
    _need(f["kind"] < 2 and max(f["a_shape"], f["b_shape"]) < 8, "an unknown kind or shape")
    _need(not f["a_shape"] & f["b_shape"] & CONSTANT, "both operands are constant")
    inputs: list[Port] = []
    slots: dict[int, tuple[int, bool]] = {0: (VBIN_ENTRY_BYTES, True)}
    for k, side in enumerate("ab"):
        pixels, channels = operand(f, side)
        pe = 1 if channels == 1 else f["pe"]
        signed = bool(f["x_signed"] if side == "a" else f["b_signed"])
        if f[f"{side}_shape"] & CONSTANT:
            slots[k + 1] = (pixels * channels, True)
        else:
            inputs.append(Port(pe, f["x_bits"], signed, images(f) * pixels * channels // pe))
    wide = f["kind"] == 0 and f["x_bits"] <= 16 and f["y_bits"] <= 16 and len(inputs) == 2
    _need(wide or (f["x_bits"] == 8 and f["y_bits"] <= 8), "operands are no bytes, nor a sum of two streams of 16 bits")
    return Ports(tuple(inputs), (_y(f, f["pe"], words),), slots)


def _many(f: dict[str, int], letter: str) -> list[int]:
    count = f["inputs"]
    sizes = [f[f"{letter}{k}"] for k in range(MAX_INPUTS)]
    _need(0 < count <= MAX_INPUTS and min(sizes[:count]) > 0 and not any(sizes[count:]), "wrong number of inputs")
    return sizes[:count]


def _cat(f: dict[str, int]) -> Ports:
    sizes = _many(f, "c")
    for size in sizes:
        _divides(f["pe"], size, "an input's channels")
    _need(f["pixels"] > 0, "no position")
    inputs = tuple(_x(f, f["pe"], f["pixels"] * s // f["pe"]) for s in sizes)
    return Ports(inputs, (_x(f, f["pe"], f["pixels"] * sum(sizes) // f["pe"]),), {})


def _add(f: dict[str, int]) -> Ports:
    _need(2 <= f["inputs"] <= MAX_INPUTS, f"{f['inputs']} inputs, 2 to {MAX_INPUTS} are possible")
    words = _folded(f)
    return Ports((_x(f, f["pe"], words),) * f["inputs"], (_y(f, f["pe"], words),), {})


def _dup(f: dict[str, int]) -> Ports:
    port = _x(f, f["pe"], _folded(f))
    _need(f["outputs"] > 1, "duplicates to fewer than two")
    return Ports((port,), (port,) * f["outputs"], {})


def _dwc(f: dict[str, int]) -> Ports:
    a, b = f["pe"], f["pe_out"]
    _need(a > 0 and b > 0 and a != b and max(a, b) % min(a, b) == 0, f"words of {a} and {b} elements do not convert")
    _divides(max(a, b), f["elements"], "the elements")
    return Ports((_x(f, a, f["elements"] // a),), (_x(f, b, f["elements"] // b),), {})


def _crop(f: dict[str, int]) -> Ports:
    for name in ("channels", "first", "kept"):
        _need(f["pe"] > 0 and f[name] % f["pe"] == 0, f"{f['pe']} does not divide {name} = {f[name]}")
    inside = f["kept"] > 0 and f["first"] + f["kept"] <= f["channels"]
    for size, start, out, stride in (("in_h", "top", "oh", "sh"), ("in_w", "left", "ow", "sw")):
        _need(f[out] > 0 and f[stride] > 0, "an empty result")
        inside = inside and f[start] + (f[out] - 1) * f[stride] < f[size]
    _need(inside, "what stays is not inside the image")
    words_in = images(f) * f["in_h"] * f["in_w"] * f["channels"] // f["pe"]
    words_out = images(f) * f["oh"] * f["ow"] * f["kept"] // f["pe"]
    return Ports((_x(f, f["pe"], words_in),), (_x(f, f["pe"], words_out),), {})


def _ups(f: dict[str, int]) -> Ports:
    _divides(f["pe"], f["channels"], "the channels")
    words = images(f) * f["in_h"] * f["in_w"] * f["channels"] // f["pe"]
    _need(words > 0 and f["fh"] > 0 and f["fw"] > 0, "an empty image or a factor of zero")
    return Ports((_x(f, f["pe"], words),), (_x(f, f["pe"], words * f["fh"] * f["fw"]),), {})


def _buf(f: dict[str, int]) -> Ports:
    sizes = _many(f, "n")
    for size in (*sizes, f["elements"]):
        _divides(f["pe"], size, "the elements")
    _need(f["copies"] > 0, "it copies nothing")
    inputs = tuple(_x(f, f["pe"], images(f) * s // f["pe"]) for s in sizes)
    slots = {0: (8 * (4 * (len(sizes) + 1) + COPY_WORDS * f["copies"]), True), 1: (0, False)}
    return Ports(inputs, (_x(f, f["pe"], images(f) * f["elements"] // f["pe"]),), slots)


def _arg(f: dict[str, int]) -> Ports:
    return Ports((_x(f, f["pe"], _folded(f)),), (Port(1, 64, True, f["pixels"]),), {})


_RULES = {
    "SRC": lambda f: _boundary(f, True), "SNK": lambda f: _boundary(f, False), "PAD": _pad, "WIN": _win,
    "BRI": lambda f: _bridge(f, True), "BRO": lambda f: _bridge(f, False),
    "MVAU": _mvau, "VVAU": _vvau, "REQ": _req, "THR": _thr, "TAB": _tab, "POOL": _pool, "SUM": _sum, "BIN": _bin,
    "CAT": _cat, "DUP": _dup, "DWC": _dwc, "CROP": _crop, "UPS": _ups, "BUF": _buf, "ARG": _arg,
    "ADD": _add, "MEM": _mem,
}  # fmt: skip
__all__ = [
    "Illegal", "Port", "Ports", "container_bytes", "frame_elements", "frame_memory", "images", "operand", "ports",
    "sum_bytes", "value_range",
]  # fmt: skip
