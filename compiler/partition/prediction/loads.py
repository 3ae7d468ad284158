"""What a plan takes of every engine, link, bank and of the host a frame, and which of them limits it.

Needs the plan and the timelines of its tasks; sums only, so it is right for hand-edited plans too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compiler.isa.program import EngineSpec
from compiler.ops.base import TaskTimeline
from compiler.ops.registry import bare
from compiler.partition.contention import Timeline
from compiler.partition.costs import busy_cycles
from compiler.plan.model import Plan
from cost_models.pipeline import pipeline_makespan
from cost_models.primitives import PS_PER_SECOND, ceil_div, cycles_ps, transfer_ps
from device_db.model import Cluster
from device_db.topology import link_specs


@dataclass(frozen=True, slots=True)
class Loads:
    """By name: bits a frame and time of each link, bytes a frame and time of each bank, time of the host."""

    link_bits: dict[str, int]
    link_ps: dict[str, int]
    bank_bytes: dict[str, int]
    bank_ps: dict[str, int]
    host_ps: int
    bank_of: dict[str, str]  # engine -> bank
    own_bytes: dict[str, int]  # engine -> bytes of its own loads and stores

    @property
    def longest_ps(self) -> int:
        """No frame can follow another sooner, whatever the engines do."""
        return max([self.host_ps, *self.link_ps.values(), *self.bank_ps.values()])

    @classmethod
    def of(
        cls, plan: Plan, cluster: Cluster, timelines: Mapping[str, Timeline], ends: Sequence[Mapping[str, int]]
    ) -> Loads:
        """ends: of each channel, the bytes that it keeps the banks of its engines busy for."""
        specs = link_specs(cluster)
        bits: dict[str, int] = {}
        bank_of = {e.id: f"{e.device}/{e.parameters['bank']}" for e in plan.engines}
        rate = {f"{e.device}/{e.parameters['bank']}": int(e.parameters["bank_bytes_per_second"]) for e in plan.engines}
        moved = dict.fromkeys(sorted(rate), 0)
        own = dict.fromkeys(bank_of, 0)
        for c, at in zip(plan.channels, ends, strict=True):
            for link in c.route:
                bits[link] = bits.get(link, 0) + c.bits_per_frame
            for end, size in at.items():
                moved[bank_of[end]] += size
        for layer in plan.layers:
            for hop in (h for x in layer.xfer for h in x.hops):
                for link in hop.route:
                    bits[link] = bits.get(link, 0) + hop.bits_per_frame
            for s in layer.slices:
                t = timelines[s.task]
                size = sum(t.ld_bus_bytes) + sum(t.st_bus_bytes)
                own[s.engine] += size
                moved[bank_of[s.engine]] += size
        return cls(
            dict(sorted(bits.items())),
            {k: ceil_div(b * PS_PER_SECOND, specs[k][0]) for k, b in sorted(bits.items())},
            moved,
            {k: transfer_ps(b, rate[k] * 8) for k, b in moved.items()},
            sum(h.time_ns for h in plan.host_segments) * 1000 * plan.replicas,
            bank_of,
            own,
        )

    def engine_ps(self, specs: Mapping[str, EngineSpec], timelines: Mapping[str, Timeline], plan: Plan) -> int:
        """The busiest engine's tasks one after the other, each alone on its bank."""
        busy = dict.fromkeys(specs, 0)
        for layer in plan.layers:
            for s in layer.slices:
                busy[s.engine] += cycles_ps(pipeline_makespan(timelines[s.task]), specs[s.engine].clock_khz)
        return max(busy.values(), default=0)

    def queue_ps(self, specs: Mapping[str, EngineSpec], timelines: Mapping[str, TaskTimeline], plan: Plan) -> int:
        """The busiest queue of any engine: it does its steps one after another, so no interval is shorter."""
        busy = {(e, queue): 0 for e in specs for queue in range(3)}
        for layer in plan.layers:
            for s in layer.slices:
                t = timelines[s.task]
                for queue, cycles in enumerate((t.ld_cycles, t.cx_cycles, t.st_cycles)):
                    busy[s.engine, queue] += sum(cycles)
        return max((cycles_ps(c, specs[e].clock_khz) for (e, _), c in busy.items()), default=0)

    def barrier_ps(self, specs: Mapping[str, EngineSpec], timelines: Mapping[str, TaskTimeline], plan: Plan) -> int:
        """The longest sum over an engine of what its tasks take from barrier to barrier: what the bound is made of."""
        known: dict[tuple[TaskTimeline, EngineSpec], int] = {}
        busy = dict.fromkeys(specs, 0)
        for layer in plan.layers:
            for s in layer.slices:
                key = (timelines[s.task], bare(specs[s.engine]))
                if key not in known:
                    known[key] = busy_cycles(*key)
                busy[s.engine] += known[key]
        return max((cycles_ps(c, specs[e].clock_khz) for e, c in busy.items()), default=0)

    def crowd(self, plan: Plan, frame_ps: int) -> dict[tuple[str, str], float]:
        """(engine, link) -> share of the time that messages of others than the engine keep the link busy."""
        own: dict[tuple[str, str], int] = {}
        for c in plan.channels:
            for link in c.route:
                own[(c.source, link)] = own.get((c.source, link), 0) + c.bits_per_frame
        return {
            (e, k): self.link_ps[k] * (1 - bits / max(1, self.link_bits[k])) / frame_ps for (e, k), bits in own.items()
        }

    def background(self, specs: Mapping[str, EngineSpec], frame_ps: int, messages: bool) -> dict[str, float]:
        """Share of its bank that others than an engine's own loads and stores take, averaged over a frame: loads and
        stores of other engines, and messages if they are to count."""
        out: dict[str, float] = {}
        for e, bank in self.bank_of.items():
            all_of_it = (
                self.bank_bytes[bank]
                if messages
                else sum(size for k, size in self.own_bytes.items() if self.bank_of[k] == bank)
            )
            others = all_of_it - self.own_bytes[e]
            out[e] = others * PS_PER_SECOND / frame_ps / specs[e].bank_bytes_per_second
        return out

    def utilisation(self, plan: Plan, frame_ps: int, steady_cycles: Mapping[str, int]) -> dict[str, Any]:
        """The dies, links, banks and host of `Plan.predicted`, in permille of the interval of one replica.

        steady_cycles: of each task, in its engine's clock."""

        def permille(ps: int) -> int:
            return ceil_div(ps * 1000, frame_ps)

        die_of = {e.id: f"{e.device}/{e.die}" for e in plan.engines}
        cycles = dict.fromkeys(sorted(die_of.values()), 0)
        for layer in plan.layers:
            for s in layer.slices:
                cycles[die_of[s.engine]] += steady_cycles[s.task]
        dies: dict[str, dict[str, int]] = {}
        for die, busy in cycles.items():
            here = [e for e in plan.engines if die_of[e.id] == die]
            ps = cycles_ps(busy, int(here[0].parameters["clock_khz"])) // len(here)
            dies[die] = {"busy_cycles": busy, "busy_permille": min(1000, permille(ps)), "engines": len(here)}
        return {
            "dies": dies,
            "links": {
                k: {"bits_per_frame": b, "utilisation_permille": permille(self.link_ps[k])}
                for k, b in self.link_bits.items()
            },
            "banks": {
                k: {"bytes_per_frame": b, "utilisation_permille": permille(self.bank_ps[k])}
                for k, b in self.bank_bytes.items()
            },
            "host": {"segments": len(plan.host_segments), "busy_permille": permille(self.host_ps)},
        }


def limiting(plan: Plan, loads: Loads, busy_ps: Mapping[str, int], frame_ps: int) -> dict[str, Any]:
    """The busiest thing, in words, and what would relieve it, the cheapest first."""
    things = [("engine", e, ps) for e, ps in busy_ps.items()]
    things += [("link", k, ps) for k, ps in loads.link_ps.items()]
    things += [("bank", k, ps) for k, ps in loads.bank_ps.items()]
    if plan.host_segments:
        things.append(("host", "host", loads.host_ps))
    kind, where, ps = max(things, key=lambda t: (t[2], t[0] == "engine", t[1]))
    share = min(100, ps * 100 // frame_ps)
    if share < 90:
        text = f"messages wait for each other; the busiest thing, {where}, is busy {share} % of the interval"
        relief = ["--objective latency, or --replicas auto, send less", "a board or --topology with faster links"]
        return {"kind": "order", "where": "messages", "text": text, "relief": relief}
    if kind == "engine":
        heavy = sorted((s.cycles, layer.name) for layer in plan.layers for s in layer.slices if s.engine == where)[-3:]
        names = ", ".join(name for _, name in reversed(heavy))
        text = f"engine {where} is busy {share} % of the interval, most with {names}"
        relief = ["add a device", "a larger board, or a higher --clock"]
        if plan.replicas == 1 and plan.options.get("objective") == "throughput":
            relief.insert(0, "compare --replicas auto")
    elif kind == "bank":
        text = f"bank {where} is busy {share} % of the interval"
        relief = [
            "--memory auto keeps weights on chip where they fit",
            "a board with more DRAM or HBM bandwidth",
            "add a device",
        ]
    elif kind == "link":
        text = f"link {where} is busy {share} % of the interval"
        relief = ["fewer slices that cross it", "another --topology", "a board with faster links"]
    else:
        text = f"the host's segments take {share} % of the interval"
        relief = ["give measured times with --host-profile", "move the host nodes out of the model"]
    return {"kind": kind, "where": where, "text": text, "relief": relief}
