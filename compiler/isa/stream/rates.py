"""When a unit reads, works and writes: its processes, firing by firing (docs/streaming.md, "Time").

A process fires `firings` times a frame, one firing after the other; firing k takes `cost[k]` cycles. It starts when of
every stream it reads `need[k]` words of the frame are there and every stream that it writes has room for what it then
writes; what it writes is there `latency` cycles after the firing's end. Windows have two processes, a reader and a
writer, with a line buffer between them. All arrays are of one frame; the next frame follows on without gap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.isa.program import Instruction
from compiler.isa.stream.counts import Ints, count, firsts, index, is_count, same
from compiler.isa.stream.ports import images, operand, ports
from compiler.isa.stream.table import BRIDGES, DRAM
from compiler.isa.stream.windows import window_cycles

# Pipeline depths in cycles from the last operand to the result. Assumptions of this project, to be calibrated by
# synthesis: FINN's HLS units take about ten cycles, moving units two.
LATENCY_CYCLES = {"MVAU": 12, "VVAU": 12, "REQ": 8, "THR": 6, "POOL": 6, "SUM": 6, "BIN": 8, "TAB": 3, "ARG": 3,
                  "ADD": 4}  # fmt: skip
MOVE_CYCLES = 2


@dataclass(frozen=True, slots=True, eq=False)
class Reads:
    """A stream that a process reads: `need` (firings,) words that must be there when firing k starts; `freer` (words,)
    the firing whose end gives word j's place back."""

    stream: str  # "in0", "line0", …
    need: Ints
    freer: Ints
    each: bool = False  # a word a firing: need is 1…n, freer 0…n−1


@dataclass(frozen=True, slots=True, eq=False)
class Writes:
    """A stream that a process writes: `made` (firings,) words written when firing k has ended; `maker` (words,) the
    firing that writes word j."""

    stream: str  # "out0", "line0", …
    made: Ints
    maker: Ints
    each: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Process:
    cost: Ints  # (firings,) cycles
    latency_cycles: int
    reads: tuple[Reads, ...]
    writes: tuple[Writes, ...]

    @property
    def cycles(self) -> int:
        """Cycles of a frame without any wait."""
        return int(self.cost.sum())


@dataclass(frozen=True, slots=True, eq=False)
class Behaviour:
    """The processes of a unit and the words of its inner buffers."""

    processes: tuple[Process, ...]
    lines: dict[str, int]

    @property
    def cycles(self) -> int:
        """Cycles of the busiest process: the unit's share of an interval."""
        return max(p.cycles for p in self.processes)


def _reads(stream: str, need: Ints, freed: Ints | None = None) -> Reads:
    """freed: words given back when firing k has ended; as many as were needed unless said otherwise."""
    if freed is None and is_count(need):
        return Reads(stream, count(len(need)), index(len(need)), True)
    return Reads(stream, need, firsts(need if freed is None else freed))


def _writes(stream: str, made: Ints) -> Writes:
    if is_count(made):
        return Writes(stream, count(len(made)), index(len(made)), True)
    return Writes(stream, made, firsts(made))


def _one(op: str, firings: int, reads: list[Reads], writes: list[Writes], cost: Ints | None = None) -> Behaviour:
    every = same(firings, 1) if cost is None else cost
    return Behaviour((Process(every, LATENCY_CYCLES.get(op, MOVE_CYCLES), tuple(reads), tuple(writes)),), {})


def _buffered(words_in: int, index: Ints, depth: int) -> Behaviour:
    """Reader and writer around a buffer of `depth` words; output word k is made of input words up to `index[k]`
    (per output word the first and the last one, shape (2, k))."""
    first, last = index
    need = np.maximum.accumulate(last + 1)
    later = np.minimum.accumulate(first[::-1])[::-1]
    freed = np.concatenate([later[1:], [words_in]])
    reader = Process(same(words_in, 1), 1, (_reads("in0", count(words_in)),), (_writes("line0", count(words_in)),))
    n = len(need)
    writer = Process(same(n, 1), MOVE_CYCLES, (_reads("line0", need, freed),), (_writes("out0", count(n)),))
    return Behaviour((reader, writer), {"line0": depth})


def window_index(f: dict[str, int]) -> Ints:
    """(2, output words): first and last input word that each output word of a WIN is made of."""
    folds, per_block = f["channels"] // f["pe"], f["block"] // f["pe"]
    y = np.arange(f["oh"])[:, None, None, None, None, None] * f["sh"]
    x = np.arange(f["ow"])[None, :, None, None, None, None] * f["sw"]
    b = np.arange(f["channels"] // f["block"])[None, None, :, None, None, None] * per_block
    i = np.arange(f["kh"])[None, None, None, :, None, None] * f["dh"]
    j = np.arange(f["kw"])[None, None, None, None, :, None] * f["dw"]
    c = np.arange(per_block)
    words = ((y + i) * f["in_w"] + x + j) * folds + b + c
    if f["pe_out"] == f["pe"]:
        flat = words.reshape(-1)
        return np.stack([flat, flat])
    whole = words.reshape(f["oh"] * f["ow"] * (f["channels"] // f["block"]), -1)
    return np.stack([whole[:, 0], whole[:, -1]])


def least_buffer(f: dict[str, int]) -> int:
    """Words that a WIN's line buffer needs at least. Every row of windows is like the one before, some words on, and
    what is needed and given back there follows from it and its neighbours: three tell."""
    first, last = window_index(f | {"oh": min(f["oh"], 3)})
    need = np.maximum.accumulate(last + 1)
    before = np.minimum.accumulate(first[::-1])[::-1]
    return int((need - before).max())


def _each(words: int, index: Ints, times: int) -> Ints:
    """The words that each output word is made of, (2, output words), image after image of `words` input words."""
    if times == 1:
        return index
    start = np.arange(times, dtype=np.int64)[:, None] * words
    return (index[:, None, :] + start).reshape(len(index), -1)


def _win(f: dict[str, int]) -> Behaviour:
    words_in, n = f["in_h"] * f["in_w"] * f["channels"] // f["pe"], images(f)
    return _buffered(n * words_in, _each(words_in, window_index(f), n), f["depth"])


def _mvau(f: dict[str, int]) -> Behaviour:
    """The first row fold reads the vector word by word; the others run over the kept copy, one firing each."""
    vectors, rows, columns = f["pixels"] * f["groups"], f["mh"] // f["pe"], f["mw"] // f["simd"]
    each = columns + rows - 1
    if f["memory"] == DRAM:
        return _streamed(f, vectors, rows, columns)
    k = np.arange(each, dtype=np.int64)
    cost = np.where(k < columns, 1, columns)
    need = np.minimum(k + 1, columns)
    made = np.maximum(k - columns + 2, 0)
    v = np.arange(vectors, dtype=np.int64)[:, None]
    reads = _reads("in0", (v * columns + need).reshape(-1))
    writes = _writes("out0", (v * rows + made).reshape(-1))
    return _one("MVAU", vectors * each, [reads], [writes], np.tile(cost, vectors))


def _streamed(f: dict[str, int], vectors: int, rows: int, columns: int) -> Behaviour:
    """With weights from a stream every cycle takes a word of them, so every cycle is a firing."""
    k = np.arange(rows * columns, dtype=np.int64)
    v = np.arange(vectors, dtype=np.int64)[:, None]
    reads = [_reads("in0", (v * columns + np.minimum(k + 1, columns)).reshape(-1)),
             _reads("in1", count(vectors * rows * columns))]  # fmt: skip
    writes = _writes("out0", (v * rows + (k + 1) // columns).reshape(-1))
    return _one("MVAU", vectors * rows * columns, reads, [writes])


def _reduce(op: str, words_in: int, per_result: int, inputs: int = 1) -> Behaviour:
    """Every `per_result` words of each input make one output word."""
    k = count(words_in)
    reads = [_reads(f"in{p}", k) for p in range(inputs)]
    return _one(op, words_in, reads, [_writes("out0", k // per_result)])


def _pad(f: dict[str, int]) -> Behaviour:
    folds = f["channels"] // f["pe"]
    tall, wide = f["in_h"] + f["top"] + f["bottom"], f["in_w"] + f["left"] + f["right"]
    inside = np.zeros((tall, wide, folds), np.int64)
    inside[f["top"] : f["top"] + f["in_h"], f["left"] : f["left"] + f["in_w"]] = 1
    need = np.cumsum(np.tile(inside.reshape(-1), images(f)))
    return _one("PAD", len(need), [_reads("in0", need)], [_writes("out0", count(len(need)))])


def _sum(f: dict[str, int]) -> Behaviour:
    folds = f["channels"] // f["pe"]
    k = count(images(f) * f["pixels"] * folds)
    image, inside = np.divmod(k - 1, f["pixels"] * folds)
    made = image * folds + np.maximum(inside + 1 - (f["pixels"] - 1) * folds, 0)
    return _one("SUM", len(k), [_reads("in0", k)], [_writes("out0", made)])


def _bin(f: dict[str, int], inputs: int) -> Behaviour:
    folds = f["channels"] // f["pe"]
    k = np.arange(images(f) * f["pixels"] * folds, dtype=np.int64)
    image, inside = np.divmod(k, f["pixels"] * folds)
    reads: list[Reads] = []
    for side in "ab":
        if f[f"{side}_shape"] & 4:
            continue
        pixels, channels = operand(f, side)
        words = pixels if channels == 1 else pixels * folds  # of an image
        word = inside // folds if channels == 1 else inside
        reads.append(_reads(f"in{len(reads)}", image * words + np.minimum(word + 1, words)))
    return _one("BIN", len(k), reads, [_writes("out0", k + 1)])


def _cat(f: dict[str, int]) -> Behaviour:
    folds = [f[f"c{k}"] // f["pe"] for k in range(f["inputs"])]
    total = sum(folds)
    k = np.arange(f["pixels"] * total, dtype=np.int64)
    position, inside = k // total, k % total
    reads, start = [], 0
    for p, size in enumerate(folds):
        reads.append(_reads(f"in{p}", position * size + np.clip(inside + 1 - start, 0, size)))
        start += size
    return _one("CAT", len(k), reads, [_writes("out0", k + 1)])


def _dwc(f: dict[str, int]) -> Behaviour:
    if f["pe"] < f["pe_out"]:
        return _reduce("DWC", f["elements"] // f["pe"], f["pe_out"] // f["pe"])
    ratio = f["pe"] // f["pe_out"]
    k = np.arange(f["elements"] // f["pe_out"], dtype=np.int64)
    return _one("DWC", len(k), [_reads("in0", k // ratio + 1)], [_writes("out0", k + 1)])


def _crop(f: dict[str, int]) -> Behaviour:
    folds = f["channels"] // f["pe"]
    stays = np.zeros((f["in_h"], f["in_w"], folds), np.int64)
    rows = f["top"] + np.arange(f["oh"]) * f["sh"]
    columns = f["left"] + np.arange(f["ow"]) * f["sw"]
    first = f["first"] // f["pe"]
    stays[np.ix_(rows, columns, np.arange(first, first + f["kept"] // f["pe"]))] = 1
    made = np.cumsum(np.tile(stays.reshape(-1), images(f)))
    return _one("CROP", len(made), [_reads("in0", count(len(made)))], [_writes("out0", made)])


def _ups(f: dict[str, int]) -> Behaviour:
    folds = f["channels"] // f["pe"]
    y = (np.arange(f["in_h"] * f["fh"]) // f["fh"])[:, None, None]
    x = (np.arange(f["in_w"] * f["fw"]) // f["fw"])[None, :, None]
    index = ((y * f["in_w"] + x) * folds + np.arange(folds)).reshape(-1)
    words_in, n = f["in_h"] * f["in_w"] * folds, images(f)
    return _buffered(n * words_in, _each(words_in, np.stack([index, index]), n), 2 * f["in_w"] * folds)


def _buf(f: dict[str, int]) -> Behaviour:
    """Two images of every input: one is filled while the other is read."""
    sizes = [f[f"n{k}"] // f["pe"] for k in range(f["inputs"])]
    out, n = f["elements"] // f["pe"], images(f)
    done = count(n * out) // out  # images that have been read
    processes, reads, lines = [], [], {}
    for p, size in enumerate(sizes):
        every = count(n * size)
        processes.append(Process(same(n * size, 1), 1, (_reads(f"in{p}", every),), (_writes(f"line{p}", every),)))
        need = same(out, size) if n == 1 else (index(n * out) // out + 1) * size
        reads.append(_reads(f"line{p}", need, done * size))
        lines[f"line{p}"] = 2 * size
    processes.append(Process(same(n * out, 1), MOVE_CYCLES, tuple(reads), (_writes("out0", count(n * out)),)))
    return Behaviour(tuple(processes), lines)


def _bridge(op: str, words: int) -> Behaviour:
    """The side of the stream: it begins when the frame is whole and gives its slot back at the end (BRI), or has it
    whole at the end (BRO). "link" counts frames."""
    every, whole = count(words), np.zeros(words, np.int64)
    whole[-1] = 1
    if op == "BRI":
        return _one(op, words, [_reads("link", same(words, 1), whole)], [_writes("out0", every)])
    return _one(op, words, [_reads("in0", every)], [_writes("link", whole)])


def behaviour(ins: Instruction) -> Behaviour:
    """The processes of a unit; units at a boundary read and write the stream "link". The unit must be legal
    (`ports`)."""
    f, op = ins.fields, ins.op
    if op == "WIN":
        return _win(f)
    if op == "MVAU":
        return _mvau(f)
    if op == "PAD":
        return _pad(f)
    if op == "SUM":
        return _sum(f)
    if op in ("CAT", "DWC", "CROP", "UPS", "BUF"):
        return {"CAT": _cat, "DWC": _dwc, "CROP": _crop, "UPS": _ups, "BUF": _buf}[op](f)
    p = ports(ins)
    if op == "BIN":
        return _bin(f, len(p.inputs))
    if op in ("VVAU", "POOL", "ARG"):
        words_in = p.inputs[0].words
        return _reduce(op, words_in, words_in // p.outputs[0].words, len(p.inputs))
    words = (p.inputs or p.outputs)[0].words
    if op in BRIDGES:
        return _bridge(op, words)
    k = count(words)
    reads = [_reads("link", k)] if op == "SRC" else [_reads(f"in{q}", k) for q in range(len(p.inputs))]
    writes = [_writes("link", k)] if op == "SNK" else [_writes(f"out{q}", k) for q in range(len(p.outputs))]
    return _one(op, words, reads, writes)


def unit_cycles(ins: Instruction) -> int:
    """`behaviour(ins).cycles` in closed form; a window counts what reading and writing hold each other up, too."""
    f, op = ins.fields, ins.op
    if op == "WIN":
        return images(f) * window_cycles(f)
    if op == "MVAU":
        return f["pixels"] * f["groups"] * (f["mh"] // f["pe"]) * (f["mw"] // f["simd"])
    p = ports(ins)
    return max(port.words for port in (*p.inputs, *p.outputs))
