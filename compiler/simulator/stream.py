"""Timing of netlists: every firing of every unit with bounded FIFOs, channels over shared links, the host.

Needs programs as read; gives the SimResult of docs/bundle.md. The same network as the static checker proves free of
deadlock: one frame is played for the latency; the interval is that of a steady schedule at the pace of the busiest
process, or else frames are played until the distance of results stands still.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise

from compiler.isa.program import DeviceProgram
from compiler.isa.stream.banks import frame_bytes, readers
from compiler.isa.stream.counts import Ints
from compiler.isa.stream.flow import Actor, Network, Stuck
from compiler.isa.stream.network import Timed, Work, build
from compiler.isa.stream.program import UnitRow
from compiler.isa.stream.steady import Steady, broken, busiest_ps, steady
from compiler.isa.table import HOST_RANK
from compiler.simulator.host import HostTask, root_names, root_of
from compiler.simulator.result import QueueTime, SimResult, TaskTime, Utilisation
from cost_models.primitives import ceil_div
from device_db.errors import FvcError

MOST_FRAMES = 40
TRACE_FRAMES = 4
STILL = 3  # equal distances in a row


def work_of(programs: Sequence[DeviceProgram], host: Sequence[HostTask]) -> list[Work]:
    """Host segments with their tensors by root."""
    roots = root_names(programs)
    return [
        Work(t.name, tuple(root_of(n, roots) for n in t.inputs), tuple(root_of(n, roots) for n in t.outputs), t.time_ps)
        for t in host
    ]


def _done(timed: Timed) -> int:
    return max((timed.network.actors[k].end_ps for k in timed.sinks), default=0)


def _stuck(stuck: Stuck) -> FvcError:
    return FvcError("FVC490", "the netlist comes to a halt", where=tuple(stuck.waiting[:8]), exit_code=1)


def simulate_fabrics(programs: Sequence[DeviceProgram], frames: int | None, host: Sequence[HostTask]) -> SimResult:
    """As `compiler.simulator.simulate`. Raises FVC490 on deadlock."""
    work = work_of(programs, host)
    timed = build(programs, work)
    done: list[int] = []
    proved = _proved(timed.network) if frames is None else None
    settled = proved is not None
    once: dict[int, tuple[int, int]] = {}
    steady: dict[int, int] = {}
    try:
        while not done or (
            len(done) < (MOST_FRAMES if frames is None else frames) and not (settled and frames is None)
        ):
            timed.network.play(1)
            done.append(_done(timed))
            for k, a in enumerate(timed.network.actors):
                span = (int(a.starts[-1][0]), a.end_ps)
                once.setdefault(k, span)
                steady[k] = span[1] - span[0]
            gaps = [b - a for a, b in zip(done[-STILL - 1 :], done[-STILL:], strict=False)]
            settled = settled or (len(done) > STILL and max(gaps) - min(gaps) <= max(gaps) // 1000)
    except Stuck as stuck:
        raise _stuck(stuck) from None
    gaps = [b - a for a, b in pairwise(done)][-STILL:]
    interval = sum(gaps) // len(gaps) if gaps else done[0]
    if proved is not None:
        interval = proved.period_ps
        steady = {k: int(s[-1] - s[0] + a.cost_ps[-1]) for k, (s, a) in _firings(timed.network, proved)}
    replicas = max(1, programs[0].replicas)
    # The run's first frame meets an empty machine: it is the single frame, too. With several copies it is one of each,
    # and the slowest copy's counts.
    return SimResult(
        interval_ps=ceil_div(interval, replicas),
        latency_ps=done[0],
        first_ps=done[0],
        frames=len(done) * replicas,
        settled=settled,
        replicas=replicas,
        done_ps=tuple(done),
        tasks=_tasks(programs, timed, once, steady),
        queues=_queues(timed),
        utilisation=_utilisation(programs, timed, interval),
        instructions=sum(len(p.fabric.text) for p in programs if p.fabric),
    )


def _proved(net: Network) -> Steady | None:
    """A steady schedule with which the netlist keeps the pace of its busiest process: the interval without playing to
    the end of the first frames, that are further apart while FIFOs fill."""
    found = steady(net, busiest_ps(net))
    return None if found is None or broken(net, found) else found


def _firings(net: Network, found: Steady) -> Iterator[tuple[int, tuple[Ints, Actor]]]:
    yield from enumerate(zip(found.starts, net.actors, strict=True))


def _tasks(
    programs: Sequence[DeviceProgram], timed: Timed, once: dict[int, tuple[int, int]], steady: dict[int, int]
) -> tuple[TaskTime, ...]:
    """A row an engine: from the first firing of any of its units to the end of the last one."""
    found: dict[str, list[tuple[int, int, int, UnitRow, int]]] = {}
    for (p, unit), actors in timed.units.items():
        fabric = programs[p].fabric
        assert fabric is not None
        row = fabric.rows[unit]
        for k in actors:
            if timed.network.actors[k].prefetches:  # weights are read ahead of any frame
                continue
            found.setdefault(row.engine, []).append((*once[k], steady[k], row, fabric.rank))
    out = []
    for engine, rows in found.items():
        start, end = min(r[0] for r in rows), max(r[1] for r in rows)
        row, rank = rows[0][3], rows[0][4]
        out.append(TaskTime(rank, engine, row.task, row.node, start, end, end - start, max(r[2] for r in rows)))
    return tuple(out)


def _queues(timed: Timed) -> tuple[QueueTime, ...]:
    """Host segments and channels as queues of the host."""
    out = [
        QueueTime(-1, a.name, int(a.cost_ps.sum()), 0, {})
        for a in timed.network.actors
        if a.unit < 0 and a.cost_ps.any()
    ]
    return tuple(out)


def _utilisation(programs: Sequence[DeviceProgram], timed: Timed, interval_ps: int) -> tuple[Utilisation, ...]:
    """Engines by the picoseconds that their busiest unit works, links and memory banks by their bytes."""
    busy: dict[str, int] = {}
    for (p, unit), actors in timed.units.items():
        fabric = programs[p].fabric
        assert fabric is not None
        engine = fabric.rows[unit].engine
        own = [timed.network.actors[k] for k in actors]
        working = [int(a.cost_ps.sum()) for a in own if not a.prefetches]
        busy[engine] = max(busy.get(engine, 0), *working, 0)
    out = [Utilisation("engine", engine, ps, interval_ps) for engine, ps in busy.items()]
    rate = {x.id: x.bits_per_second for p in programs for x in p.links}
    load = dict.fromkeys(sorted(rate), 0)
    for c in {c.id: c for p in programs for c in p.channels}.values():
        for name in c.links:
            load[name] += c.max_bytes
    out += [Utilisation("link", name, size, rate[name] * interval_ps // (8 * 10**12)) for name, size in load.items()]
    for program in programs:
        fabric = program.fabric
        for number, units in sorted(readers(fabric).items()) if fabric is not None else ():
            assert fabric is not None
            bank, size = fabric.banks[number], sum(frame_bytes(u.fields) for u in units)
            room = bank.bytes_per_second * interval_ps // 10**12
            out.append(Utilisation("bank", f"{program.name}/{bank.name}", size, room))
    return tuple(out)


def trace_fabrics(programs: Sequence[DeviceProgram], frames: int | None, host: Sequence[HostTask]) -> str:
    """A Perfetto trace (JSON text): a track a unit, a slice a frame."""
    timed = build(programs, work_of(programs, host))
    events: list[dict[str, object]] = []

    def name(pid: int, label: str, tid: int | None = None) -> None:
        kind = "process_name" if tid is None else "thread_name"
        events.append({"ph": "M", "name": kind, "pid": pid, "tid": tid or 0, "args": {"name": label}})

    tracks: dict[int, int] = {}
    for p, program in enumerate(programs):
        name(p + 1, f"{program.name}, netlist")
    name(HOST_RANK, "host and channels")
    for (p, _), actors in timed.units.items():
        for k in actors:
            tracks[k] = p + 1
    for k, a in enumerate(timed.network.actors):
        name(tracks.get(k, HOST_RANK), a.name, k + 1)
    try:
        for frame in range(TRACE_FRAMES if frames is None else max(1, frames)):
            timed.network.play(1)
            for k, a in enumerate(timed.network.actors):
                start = int(a.starts[-1][0])
                events.append(
                    {
                        "ph": "X",
                        "name": a.name,
                        "cat": "unit" if k in tracks else "host",
                        "pid": tracks.get(k, HOST_RANK),
                        "tid": k + 1,
                        "ts": start / 1e6,
                        "dur": (a.end_ps - start) / 1e6,
                        "args": {"frame": frame, "busy_ps": int(a.cost_ps.sum())},
                    }
                )
    except Stuck as stuck:
        raise _stuck(stuck) from None
    return json.dumps({"displayTimeUnit": "ns", "traceEvents": events}, separators=(",", ":"))
