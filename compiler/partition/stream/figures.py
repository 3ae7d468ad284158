"""What a streaming plan is predicted to do: interval, latency, use of dies, links and host, and what limits it.

The interval is that of the slowest thing: a unit, a link, the host. The latency is the forward recurrence of a single
frame through the netlist as if no FIFO were ever full (docs/streaming.md, "Prediction").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compiler.isa.program import DeviceProgram
from compiler.isa.stream.network import Work
from compiler.ops.stream.measure import bank_ps, busy_ps, compute_ps, crossing_wires, latency_ps, link_ps
from compiler.partition.prediction.predict import headline
from compiler.plan.model import EnginePlan
from cost_models.primitives import ceil_div
from device_db.model import Cluster


def predict(
    programs: Sequence[DeviceProgram],
    cluster: Cluster,
    engines: Sequence[EnginePlan],
    layers: Mapping[str, str],
    work: Sequence[Work],
    copies: int = 1,
) -> dict[str, Any]:
    """`Plan.predicted`. layers: engine id -> layer name. copies: of the net, which take the host's frames in turn: a
    round is a frame of each, and shares of time are those of a round."""
    busy, links = busy_ps(programs), link_ps(programs)
    host_ps = copies * sum(w.time_ps for w in work)
    things = [("engine", e, ps) for e, ps in busy.items()] + [("link", k, ps) for k, (_, ps) in links.items()]
    banks = bank_ps(programs)
    things += [("bank", k, ps) for k, (_, _, ps) in banks.items()]
    things += [("host", "host", host_ps)] if work else []
    # Converters and senders may take as long as the layer that they follow: name the unit that computes.
    works = compute_ps(programs)
    kind, where, turn = max(things, key=lambda t: (t[2], t[0] == "engine", works.get(t[1], 0), t[1]))
    interval = ceil_div(turn, copies)
    latency = latency_ps(programs, work)

    def permille(ps: int) -> int:
        return min(1000, ceil_div(ps * 1000, turn))

    dies: dict[str, dict[str, int]] = {}
    for e in engines:
        row = dies.setdefault(f"{e.device}/{e.die}", {"busy_permille": 0, "engines": 0})
        row["busy_permille"] = max(row["busy_permille"], permille(busy[e.id]))
        row["engines"] += 1
    return {
        **headline(interval, latency, cluster, engines),
        "dies": dict(sorted(dies.items())),
        "links": {
            k: {"bits_per_frame": ceil_div(b, copies), "utilisation_permille": permille(ps)}
            for k, (b, ps) in links.items()
        },
        "crossings": {k: {"wires": w} for k, w in crossing_wires(programs).items()},
        "banks": {
            k: {"bytes_per_frame": ceil_div(b, copies), "utilisation_permille": permille(ps)}
            for k, (b, ps, _) in banks.items()
        },
        "host": {"segments": len(work), "busy_permille": permille(host_ps)},
        "limiting": _limiting(kind, where, layers, copies),
    }


def _limiting(kind: str, where: str, layers: Mapping[str, str], copies: int) -> dict[str, Any]:
    if kind == "engine":
        text = f"layer {layers.get(where, where)} takes the whole interval{' of its copy' if copies > 1 else ''}"
        relief = ["add a device, or a larger board: layers can be unfolded further", "a higher --clock"]
    elif kind == "link":
        text, relief = f"link {where} takes the whole interval", ["another --topology", "a board with faster links"]
    elif kind == "bank":
        text = f"reading weights from memory bank {where} takes the whole interval"
        relief = [
            "--memory bram or uram keeps weights on the chip",
            "add a device, or a board with faster memory",
        ]
    else:
        text = "the host's segments take 100 % of the interval"
        relief = ["give measured times with --host-profile", "move the host nodes out of the model"]
    return {"kind": kind, "where": where, "text": text, "relief": relief}
