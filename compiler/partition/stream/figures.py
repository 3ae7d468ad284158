"""What a streaming plan is predicted to do: interval, latency, use of dies, links and host, and what limits it.

The interval is that of the slowest thing: a unit, a link, the host. The latency is the forward recurrence of a single
frame through the netlist as if no FIFO were ever full (docs/streaming.md, "Prediction").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compiler.isa.program import DeviceProgram
from compiler.isa.stream.network import Work, build, cycle_ps
from compiler.isa.stream.rates import unit_cycles
from compiler.isa.stream.resources import stream_wires
from compiler.ops.stream.assemble import Assembly
from compiler.partition.predict import number
from compiler.plan.model import EnginePlan
from cost_models.primitives import PS_PER_SECOND, ceil_div, ps_cycles
from device_db.model import Cluster


def busy_ps(programs: Sequence[DeviceProgram]) -> dict[str, int]:
    """Engine id -> picoseconds a frame of its slowest unit."""
    out: dict[str, int] = {}
    for p in programs:
        assert p.fabric is not None
        for ins, row in zip(p.fabric.units(), p.fabric.rows, strict=True):
            ps = unit_cycles(ins) * cycle_ps(p.fabric.dies[ins.fields["die"]].clock_khz)
            out[row.engine] = max(out.get(row.engine, 0), ps)
    return out


def link_ps(programs: Sequence[DeviceProgram]) -> dict[str, tuple[int, int]]:
    """Network or PCIe link -> (bits a frame, picoseconds that they take)."""
    rate = {x.id: x.bits_per_second for p in programs for x in p.links}
    bits: dict[str, int] = {}
    for c in {c.id: c for p in programs for c in p.channels}.values():
        for name in c.links:
            bits[name] = bits.get(name, 0) + 8 * c.max_bytes
    return {k: (b, ceil_div(b * PS_PER_SECOND, rate[k])) for k, b in sorted(bits.items())}


def crossing_wires(programs: Sequence[DeviceProgram], units_die: Mapping[str, Any] | None = None) -> dict[str, int]:
    """Boundary "u280-0/SLR0>SLR1" -> wires that streams take of it, each direction by itself."""
    out: dict[str, int] = {}
    for p in programs:
        assert p.fabric is not None
        units, dies = p.fabric.units(), p.fabric.dies
        for con in p.fabric.streams():
            f = con.fields
            a, b = units[f["source"]].fields["die"], units[f["target"]].fields["die"]
            step = 1 if b > a else -1
            for k in range(a, b, step):
                name = f"{p.name}/{dies[k].name}>{dies[k + step].name}"
                out[name] = out.get(name, 0) + stream_wires(f["pe"] * f["bits"])
    return dict(sorted(out.items()))


def latency_ps(programs: Sequence[DeviceProgram], work: Sequence[Work]) -> int:
    """One frame through the empty machine whose FIFOs never fill."""
    every = {(p, i) for p, d in enumerate(programs) if d.fabric for i in range(len(d.fabric.streams()))}
    timed = build(programs, work, every)
    timed.network.play(1)
    return max(timed.network.actors[k].end_ps for k in timed.sinks)


def predict(
    programs: Sequence[DeviceProgram],
    assembly: Assembly,
    cluster: Cluster,
    engines: Sequence[EnginePlan],
    layers: Mapping[str, str],
    work: Sequence[Work],
) -> dict[str, Any]:
    """`Plan.predicted`. layers: engine id -> layer name."""
    busy, links = busy_ps(programs), link_ps(programs)
    host_ps = sum(w.time_ps for w in work)
    things = [("engine", e, ps) for e, ps in busy.items()] + [("link", k, ps) for k, (_, ps) in links.items()]
    things += [("host", "host", host_ps)] if work else []
    kind, where, interval = max(things, key=lambda t: (t[2], t[0] == "engine", t[1]))
    latency = latency_ps(programs, work)
    ref_khz = max(d.clock_khz for dev in cluster.devices for d in dev.board.dies)
    seconds = interval / PS_PER_SECOND
    watts = sum(d.board.power_w for d in cluster.devices if d.name in {e.device for e in engines})

    def permille(ps: int) -> int:
        return min(1000, ceil_div(ps * 1000, interval))

    dies: dict[str, dict[str, int]] = {}
    for e in engines:
        row = dies.setdefault(f"{e.device}/{e.die}", {"busy_permille": 0, "engines": 0})
        row["busy_permille"] = max(row["busy_permille"], permille(busy[e.id]))
        row["engines"] += 1
    return {
        "interval_ns": ceil_div(interval, 1000),
        "latency_ns": ceil_div(latency, 1000),
        "interval_cycles": ps_cycles(interval, ref_khz),
        "latency_cycles": ps_cycles(latency, ref_khz),
        "clock_mhz": number(ref_khz / 1000),
        "fps": number(round(1 / seconds, 3)),
        "latency_ms": number(round(latency / 1e9, 6)),
        "energy_mj": number(round(watts * seconds * 1000, 3)),
        "dies": dict(sorted(dies.items())),
        "links": {k: {"bits_per_frame": b, "utilisation_permille": permille(ps)} for k, (b, ps) in links.items()},
        "crossings": {k: {"wires": w} for k, w in crossing_wires(programs).items()},
        "banks": {},
        "host": {"segments": len(work), "busy_permille": permille(host_ps)},
        "limiting": _limiting(kind, where, layers),
    }


def _limiting(kind: str, where: str, layers: Mapping[str, str]) -> dict[str, Any]:
    if kind == "engine":
        text = f"layer {layers.get(where, where)} takes the whole interval"
        relief = ["add a device, or a larger board: layers can be unfolded further", "a higher --clock"]
    elif kind == "link":
        text, relief = f"link {where} takes the whole interval", ["another --topology", "a board with faster links"]
    else:
        text = "the host's segments take 100 % of the interval"
        relief = ["give measured times with --host-profile", "move the host nodes out of the model"]
    return {"kind": kind, "where": where, "text": text, "relief": relief}
