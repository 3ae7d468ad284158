"""Rooflines of the layers on tiled engines, read from the binaries alone: what each does, moves and is held up by.

Needs programs; gives a row a layer and a picture an engine type. Operations are two a multiply-accumulate; a layer
without any counts one an element and tap of the vector unit. A slice's time is the predicted one of its binary, its
roofs are those of docs/machine.md, "Time": array or lanes, its bank, the links of its messages. The slices of a layer
run side by side, so its time is that of its longest slice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor, log10
from typing import Any

from compiler.isa.program import CoreProgram, DeviceProgram, EngineSpec, Instruction
from compiler.isa.table import Flag, Queue
from compiler.simulator.durations import compute_cycles, mac_operations, transfer
from cost_models.primitives import PS_PER_SECOND, VECTOR_FILL_CYCLES, ceil_div, cycles_ps, transfer_ps

WIDTH, HEIGHT = 61, 15  # of a picture, in characters
LETTERS = {"compute": "c", "vector": "v", "memory": "m", "link": "l"}
MISFIT = 0.75  # of the array's multipliers at work: below it the layer's shape is what costs


@dataclass(slots=True)
class Task:
    """One slice a frame: operations, bytes, and picoseconds for which it keeps each thing busy."""

    layer: str
    op: str
    engine: EngineSpec
    memory: str
    time_ps: int
    macs: int = 0
    steps: int = 0  # operand steps of the vector unit
    array_cycles: int = 0
    vector_cycles: int = 0
    port_ps: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # LD, ST
    bank_bytes: int = 0  # in whole bursts
    dram_bytes: int = 0
    weight_bytes: int = 0
    weight_blocks: dict[int, int] = field(default_factory=dict)  # by address: bytes that differ, however often loaded
    link_bytes: int = 0
    link_ps: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # TX, RX

    @property
    def operations(self) -> int:
        return 2 * self.macs or self.steps

    @property
    def ideal_ps(self) -> int:
        """With every multiplier (or lane) at work all the time."""
        e = self.engine
        return cycles_ps(
            ceil_div(self.macs, e.tm * e.tn) if self.macs else ceil_div(self.steps, e.vector_lanes), e.clock_khz
        )

    @property
    def bank_ps(self) -> int:
        return transfer_ps(self.bank_bytes, self.engine.bank_bytes_per_second * 8)

    @property
    def busy_ps(self) -> dict[str, int]:
        """Array, vector unit, memory and links each alone."""
        return {
            "compute": cycles_ps(self.array_cycles, self.engine.clock_khz),
            "vector": cycles_ps(self.vector_cycles, self.engine.clock_khz),
            "memory": max(self.bank_ps, *self.port_ps.values(), 0),
            "link": max([*self.link_ps.values(), 0]),
        }

    @property
    def bound_ps(self) -> int:
        """No less, whatever the tiles are: the roof."""
        return max(1, self.ideal_ps, self.bank_ps, *self.link_ps.values())


@dataclass(frozen=True, slots=True)
class Row:
    """A layer on its roofline. Rates in operations a second; bytes a frame."""

    layer: str
    op: str
    operations: int
    dram_bytes: int
    link_bytes: int
    attained: int
    bound: int
    limit: str  # compute | vector | memory | link: what keeps its longest slice busy longest
    busy_permille: int  # of that slice's time
    relief: str

    def as_json(self) -> dict[str, Any]:
        return {
            "layer": self.layer, "op": self.op, "operations": self.operations, "dram_bytes": self.dram_bytes,
            "link_bytes": self.link_bytes, "attained_ops_per_second": self.attained,
            "bound_ops_per_second": self.bound, "limit": self.limit, "busy_permille": self.busy_permille,
            "relief": self.relief,
        }  # fmt: skip


def tasks_of(programs: Sequence[DeviceProgram]) -> list[Task]:
    """Every slice on a tiled engine, in the order of the binaries."""
    out: list[Task] = []
    for program in programs:
        rates = {k.id: k.bits_per_second for k in program.links}
        slowest = {c.id: min((rates[k] for k in c.links if k in rates), default=0) for c in program.channels}
        for core in program.cores:
            out += _core(core, slowest)
    return out


def _core(core: CoreProgram, slowest: dict[int, int]) -> list[Task]:
    """The tasks of one core; a message belongs to the task that made it, on arrival to the first that reads it."""
    e = core.engine
    ports = e.ld_bytes_per_cycle, e.st_bytes_per_cycle, e.bank_bytes_per_second
    if min(e.tm, e.tn, e.vector_lanes, e.clock_khz, *ports) < 1:
        return []  # no roof; `fvc check` says what is wrong with it
    tasks = {
        str(r["task"]): Task(
            str(r["layer"]), str(r["op"]), core.engine, str(r["memory"]),
            cycles_ps(int(str(r["cycles"])), core.engine.clock_khz),
        )
        for r in core.folding
        if {"task", "layer", "op", "memory"} <= set(r) and isinstance(r.get("cycles"), int)
    }  # fmt: skip
    reader: dict[str, Task] = {}
    for queue in (Queue.LD, Queue.CX, Queue.ST, Queue.TX, Queue.RX):
        for ins in core.queues.get(queue, []):
            row = core.debug[ins.debug] if ins.debug < len(core.debug) else None
            if row is None or ins.flags & Flag.ONCE:
                continue
            task = reader.get(row.tensor) if queue == Queue.RX else tasks.get(row.task)
            # A share is named after the task that loads it, which may be elsewhere.
            if ins.fields.get("wgt", 0) or ins.fields.get("act", 0):
                layer, shares = row.task.rpartition("#")[0], ("share ", "inputs ")
                task = next((t for t in tasks.values() if t.layer == layer and t.memory.startswith(shares)), None)
            if task is None:
                continue
            if queue == Queue.LD and row.tensor:
                reader.setdefault(row.tensor, task)
            _count(task, ins, queue, row.role, slowest)
    return list(tasks.values())


def _count(task: Task, ins: Instruction, queue: Queue, role: str, slowest: dict[int, int]) -> None:
    e = task.engine
    if ins.op in ("LD", "ST"):
        box = transfer(ins, e.ld_bytes_per_cycle if ins.op == "LD" else e.st_bytes_per_cycle)
        task.port_ps[ins.op] += cycles_ps(box.port_cycles, e.clock_khz)
        task.dram_bytes += box.data_bytes
        task.bank_bytes += box.bus_bytes
        if role == "weights":
            task.weight_bytes += box.data_bytes
            task.weight_blocks[ins.fields.get("dram_addr", 0)] = box.data_bytes
    elif ins.op in ("TX", "RX"):
        size, rate = transfer(ins, 1).data_bytes, slowest.get(ins.fields.get("channel", 0), 0)
        task.link_bytes += size
        task.link_ps[ins.op] += transfer_ps(size, rate) if rate else 0
    elif ins.op == "MAC":
        task.macs += mac_operations(ins)
        task.array_cycles += compute_cycles(ins, e)
    elif queue == Queue.CX:
        cycles = compute_cycles(ins, e)
        task.vector_cycles += cycles
        task.steps += max(0, cycles - VECTOR_FILL_CYCLES) * e.vector_lanes  # SYNC has no work


def roofline(programs: Sequence[DeviceProgram]) -> list[Row]:
    """A row a layer, in the order in which the binaries name them."""
    layers: dict[str, list[Task]] = {}
    for t in tasks_of(programs):
        if t.operations:
            layers.setdefault(t.layer, []).append(t)
    return [_row(name, tasks) for name, tasks in layers.items()]


def time_ps(t: Task) -> int:
    """What a slice takes: as predicted, and no less than what it keeps busy longest."""
    return max(1, t.time_ps, *t.busy_ps.values())


def longest(tasks: Sequence[Task]) -> Task:
    """The slice that a layer waits for."""
    return max(tasks, key=time_ps)


def _row(name: str, tasks: Sequence[Task]) -> Row:
    slowest = longest(tasks)
    busy = slowest.busy_ps
    limit = max(busy, key=lambda k: busy[k])
    operations = sum(t.operations for t in tasks)
    return Row(
        name,
        slowest.op,
        operations,
        sum(t.dram_bytes for t in tasks),
        sum(t.link_bytes for t in tasks),
        operations * PS_PER_SECOND // time_ps(slowest),
        operations * PS_PER_SECOND // max(t.bound_ps for t in tasks),
        limit,
        busy[limit] * 1000 // time_ps(slowest),
        _relief(slowest, limit),
    )


def _relief(t: Task, limit: str) -> str:
    e = t.engine
    if limit == "vector":
        return f"more vector lanes than {e.vector_lanes}"
    if limit == "link":
        return "cuts that move less (rows: halos only), fewer slices, or faster links"
    if limit == "memory":
        if t.bank_ps < max(t.port_ps.values()):
            return f"wider ports than {e.ld_bytes_per_cycle} and {e.st_bytes_per_cycle} bytes, or longer runs"
        if 2 * t.weight_bytes > t.dram_bytes:
            return "weights on chip (--memory uram), or shared by slices of rows or batch"
        return "fewer engines on its bank, or slices on other banks"
    used = t.ideal_ps / max(1, t.busy_ps["compute"])
    if used < MISFIT:
        return f"a shape that fits it better than {e.tm}x{e.tn}: {100 * used:.0f} % of the multipliers work"
    return "a larger array, a higher clock, or slices over more engines"


def pictures(programs: Sequence[DeviceProgram]) -> list[str]:
    """A roofline a kind of engine: each layer's longest slice by operations a DRAM byte and operations a second."""
    layers: dict[str, list[Task]] = {}
    for t in tasks_of(programs):
        if t.macs and t.dram_bytes:
            layers.setdefault(t.layer, []).append(t)
    kinds: dict[tuple[int, int, int, int], list[Task]] = {}
    for tasks in layers.values():
        t = longest(tasks)
        e = t.engine
        kinds.setdefault((e.tm, e.tn, e.clock_khz, e.bank_bytes_per_second), []).append(t)
    return [_picture(*kind, points) for kind, points in sorted(kinds.items())]


def _picture(tm: int, tn: int, khz: int, bank: int, points: Sequence[Task]) -> str:
    """Both axes logarithmic; where slices fall on one place, the letter of the first as a capital."""
    peak = 2 * tm * tn * khz * 1000
    at = [(t.operations / t.dram_bytes, t.operations * PS_PER_SECOND / time_ps(t), t) for t in points]
    ridge = peak / bank
    left, right = log10(min(ridge / 4, *(x for x, _, _ in at))), log10(max(ridge * 4, *(x for x, _, _ in at)))
    top, bottom = log10(peak), log10(min(peak / 100, *(y for _, y, _ in at)))
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]

    def line(y: float) -> int:
        return min(HEIGHT - 1, max(0, round((top - log10(y)) / (top - bottom) * (HEIGHT - 1))))

    for k in range(WIDTH):
        x = 10 ** (left + (right - left) * k / (WIDTH - 1))
        roof = min(peak, x * bank)
        if log10(roof) >= bottom:
            grid[line(roof)][k] = "-" if x >= ridge else "/"
    for x, y, t in at:
        k = min(WIDTH - 1, max(0, round((log10(x) - left) / (right - left) * (WIDTH - 1))))
        cell = grid[line(y)][k]
        busy = t.busy_ps
        letter = LETTERS[max(busy, key=lambda b: busy[b])]
        grid[line(y)][k] = cell.upper() if cell.isalpha() else letter
    head = (
        f"{tm}x{tn} at {khz / 1000:g} MHz: {_rate(peak)}, {bank / 1e9:.1f} GB/s, ridge at {ridge:.0f} operations a byte"
    )
    lines = [f"{_rate(10**top) if k == 0 else _rate(10**bottom) if k == HEIGHT - 1 else '':>13s} |{''.join(g).rstrip()}"
             for k, g in enumerate(grid)]  # fmt: skip
    foot = f"{'':13s} +{'-' * WIDTH}"
    ends = f"{10**left:.3g}", f"{10**right:.3g} operations a byte"
    scale = f"{'':15s}{ends[0]}{ends[1]:>{WIDTH - len(ends[0])}s}"
    key = "bound by: c the array, v the vector unit, m memory, l links; a capital: several layers"
    return "\n".join([head, *lines, foot, scale, key])


def _rate(per_second: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("TOP/s", 1e12), ("GOP/s", 1e9), ("MOP/s", 1e6)):
        if per_second >= size:
            value = per_second / size
            return f"{value:.{max(0, 2 - floor(log10(value)))}f} {unit}"
    return f"{per_second:.0f} OP/s"


HEAD = ("layer", "operations", "a DRAM byte", "a link byte", "attained", "roof", "of it", "bound by", "busy", "relief")


def cells(row: Row) -> tuple[str, ...]:
    """A row as text under HEAD."""
    return (
        row.layer,
        f"{row.operations:,}",
        f"{row.operations / row.dram_bytes:.1f}" if row.dram_bytes else "-",
        f"{row.operations / row.link_bytes:.1f}" if row.link_bytes else "-",
        _rate(row.attained),
        _rate(row.bound),
        f"{100 * row.attained / max(1, row.bound):.0f} %",
        row.limit,
        f"{row.busy_permille / 10:.0f} %",
        row.relief,
    )
