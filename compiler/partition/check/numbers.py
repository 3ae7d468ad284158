"""Judges the figures: that what the plan predicts and claims agrees with itself and with what can be added up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compiler.isa.check.findings import Findings
from compiler.ops import TaskTimeline
from compiler.partition.check.loads import frame_ps, link_bits
from compiler.plan.model import Plan
from cost_models.primitives import PS_PER_SECOND, ceil_div, cycles_ps
from device_db.model import Cluster
from device_db.topology import link_specs

WHOLE = ("interval_ns", "latency_ns", "interval_cycles", "latency_cycles")
REAL = ("clock_mhz", "fps", "latency_ms", "energy_mj")


def check_numbers(
    plan: Plan, times: Mapping[str, TaskTimeline], banks: Mapping[str, int], cluster: Cluster, found: Findings
) -> None:
    """Predicted figures and the solver's claim."""
    if not check_times(plan, cluster, found):
        return
    check_solver(plan, found)
    if _tasks(plan, times, found):
        _shares(plan, banks, cluster, found)
    check_limiting(plan, found)


def check_times(plan: Plan, cluster: Cluster, found: Findings) -> bool:
    """The figures of the whole plan against each other; False where they are no numbers to go on with."""
    p = plan.predicted
    bad = [k for k in WHOLE if type(p.get(k)) is not int or p[k] <= 0]
    bad += [k for k in REAL if not isinstance(p.get(k), int | float) or p[k] <= 0]
    for key in bad:
        found.add("FVC220", f"{key} is {p.get(key)!r}", f"predicted.{key}")
    if not bad:
        _time(plan, cluster, found)
    return not bad


def _near(found: Findings, key: str, have: float, want: float, slack: float) -> None:
    if abs(have - want) > slack:
        found.add("FVC220", f"{key} is {have}, the plan's other figures make it {want:.6g}", f"predicted.{key}")


def _time(plan: Plan, cluster: Cluster, found: Findings) -> None:
    p = plan.predicted
    khz = max(d.clock_khz for dev in cluster.devices for d in dev.board.dies)
    _near(found, "clock_mhz", p["clock_mhz"], khz / 1000, 1e-9)
    _near(found, "interval_cycles", p["interval_cycles"], p["interval_ns"] * khz / 1e6, 1 + khz / 1e6)
    _near(found, "latency_cycles", p["latency_cycles"], p["latency_ns"] * khz / 1e6, 1 + khz / 1e6)
    _near(found, "fps", p["fps"], 1e9 / p["interval_ns"], 0.001 + 1e9 / p["interval_ns"] ** 2)
    _near(found, "latency_ms", p["latency_ms"], p["latency_ns"] / 1e6, 2e-6)
    used = {e.device for e in plan.engines}
    watts = sum(d.board.power_w for d in cluster.devices if d.name in used)
    _near(found, "energy_mj", p["energy_mj"], watts * p["interval_ns"] / 1e6, 0.001 + watts / 1e6)


def check_styles(plan: Plan, found: Findings) -> None:
    """What a plan of --style auto says of the styles that it was chosen from: the taken row is the plan's own."""
    told = plan.predicted.get("styles")
    if told is None:
        return
    style = "mixed" if plan.regions else plan.engines[0].style if plan.engines else ""
    taken = told.get("taken") if isinstance(told, dict) else told
    row = told.get(style) if isinstance(told, dict) else None
    own = {k: plan.predicted.get(k) for k in ("interval_ns", "latency_ns")}
    if taken != style or not isinstance(row, dict) or {k: row.get(k) for k in own} != own:
        found.add("FVC220", f"{taken!r} taken with {row}, the plan is {style} with {own}", "predicted.styles")


def check_solver(plan: Plan, found: Findings) -> None:
    s, where = plan.solver, "solver"
    key = "interval_cycles" if plan.options.get("objective") == "throughput" else "latency_cycles"
    if s.objective != plan.predicted[key]:
        found.add("FVC220", f"objective {s.objective}, predicted {key} {plan.predicted[key]}", where)
        return
    if not 0 <= s.bound <= s.objective:
        found.add("FVC220", f"bound {s.bound} is no lower bound of {s.objective}", where)
    gap = (s.objective - s.bound) / s.objective
    if abs(s.gap - gap) > 1e-6:
        found.add("FVC220", f"gap {s.gap}, objective and bound make it {gap:.6f}", where)
    if s.status != ("OPTIMAL" if s.bound == s.objective else "FEASIBLE"):
        found.add("FVC220", f"status {s.status} with bound {s.bound} and objective {s.objective}", where)
    if (s.seed, s.workers) != (plan.options.get("seed"), plan.options.get("workers")):
        found.add("FVC220", f"seed {s.seed} and workers {s.workers} differ from the options", where)
    if not s.proved_by or not s.proved_scope:
        found.add("FVC220", "a bound without saying what proves it and over what", where)


def _tasks(plan: Plan, times: Mapping[str, TaskTimeline], found: Findings) -> bool:
    """Every task's predicted cycles, at least what its arithmetic takes; False where they are no numbers."""
    tasks: dict[str, Any] = plan.predicted.get("tasks", {})
    names = {s.task for layer in plan.layers for s in layer.slices}
    if set(tasks) != names:
        found.add("FVC220", f"not the plan's tasks: {sorted(set(tasks) ^ names)[:5]}", "predicted.tasks")
        return False
    for layer in plan.layers:
        for s in layer.slices:
            least = sum(times[s.task].cx_cycles) if s.task in times else 0
            for key in ("latency_cycles", "steady_cycles"):
                have = tasks[s.task].get(key)
                if type(have) is not int or have < least:
                    found.add(
                        "FVC220", f"{key} {have!r}, its arithmetic alone takes {least}", f"predicted.tasks {s.task}"
                    )

    return all(type(row.get("steady_cycles")) is int for row in tasks.values())


def _shares(plan: Plan, banks: Mapping[str, int], cluster: Cluster, found: Findings) -> None:
    """Utilisation of links, banks, dies and host, in permille of a replica's interval."""
    p, frame = plan.predicted, frame_ps(plan)
    specs = link_specs(cluster)

    def shares(key: str, unit: str, want: dict[str, tuple[int, int]]) -> None:
        have = p.get(key, {})
        if set(have) != set(want):
            found.add("FVC220", f"not the plan's {key}: {sorted(set(have) ^ set(want))[:5]}", f"predicted.{key}")
            return
        for name, (amount, rate) in want.items():
            row = have[name]
            permille = ceil_div(ceil_div(amount * PS_PER_SECOND, rate) * 1000, frame)
            if (row.get(unit), row.get("utilisation_permille")) != (amount, permille):
                found.add(
                    "FVC220",
                    f"{row}, the plan makes it {amount} and {permille} permille",
                    f"predicted.{key} {name}",
                )

    shares("links", "bits_per_frame", {k: (b, specs[k][0]) for k, b in link_bits(plan).items() if k in specs})
    rate = {f"{e.device}/{e.parameters['bank']}": int(e.parameters["bank_bytes_per_second"]) for e in plan.engines}
    shares("banks", "bytes_per_frame", {k: (b, rate[k]) for k, b in banks.items()})
    busy: dict[str, int] = {}
    engines: dict[str, int] = {}
    clock = {}
    die_of = {e.id: f"{e.device}/{e.die}" for e in plan.engines}
    for e in plan.engines:
        busy.setdefault(die_of[e.id], 0)
        engines[die_of[e.id]] = engines.get(die_of[e.id], 0) + 1
        clock[die_of[e.id]] = int(e.parameters["clock_khz"])
    for layer in plan.layers:
        for s in layer.slices:
            busy[die_of[s.engine]] += p["tasks"].get(s.task, {}).get("steady_cycles", 0)
    dies = p.get("dies", {})
    if set(dies) != set(busy):
        found.add("FVC220", "not the plan's dies", "predicted.dies")
    for name, cycles in busy.items():
        row = dies.get(name, {})
        ps = cycles_ps(cycles, clock[name]) // engines[name]
        want = {"busy_cycles": cycles, "busy_permille": min(1000, ceil_div(ps * 1000, frame)), "engines": engines[name]}
        if row != want:
            found.add("FVC220", f"{row}, its tasks make it {want}", f"predicted.dies {name}")
    host = p.get("host", {})
    time_ps = sum(h.time_ns for h in plan.host_segments) * 1000 * plan.replicas
    want = {"segments": len(plan.host_segments), "busy_permille": ceil_div(time_ps * 1000, frame)}
    if host != want:
        found.add("FVC220", f"{host}, the segments make it {want}", "predicted.host")


def check_limiting(plan: Plan, found: Findings) -> None:
    """What is said to limit the plan is a thing of the plan."""
    p = plan.predicted
    row = p.get("limiting")
    row = row if isinstance(row, dict) else {}
    known = {
        "engine": {e.id for e in plan.engines},
        "link": set(p.get("links", {})),
        "bank": set(p.get("banks", {})),
        "host": {"host"},
        "order": {"messages"},
    }
    if (
        str(row.get("where")) not in known.get(str(row.get("kind")), set())
        or not row.get("text")
        or not row.get("relief")
    ):
        found.add("FVC220", f"{row} names nothing of the plan", "predicted.limiting")
