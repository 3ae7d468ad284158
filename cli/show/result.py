"""What the main commands print: the result of a compile, a verification, a simulation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.show.tables import table

if TYPE_CHECKING:
    from compiler.executor.report import VerifyReport
    from compiler.pipeline import CompileResult


def as_json(result: CompileResult, target: Path) -> dict[str, Any]:
    """The document of `fvc partition --format json`, without its schema key."""
    from dataclasses import asdict

    plan = result.plan
    return {
        "output": str(target),
        "model": plan.model,
        "cluster": plan.cluster,
        "solver": asdict(plan.solver),
        "predicted": plan.predicted,
        "engines": len(plan.engines),
        "layers": len(plan.layers),
        "host_segments": [asdict(s) for s in plan.host_segments],
        "fallbacks": list(plan.fallbacks),
        "verification": None if result.verification is None else result.verification.as_json(),
        "accuracy": None if result.accuracy is None else result.accuracy.as_json(),
        "files": {name: len(content) for name, content in sorted(result.files.items())},
        "seconds": {step: round(s, 3) for step, s in result.seconds.items()},
    }


def as_text(result: CompileResult, target: Path) -> str:
    """The summary of a compile, for a person."""
    from compiler.partition.auto.figures import lines as lines_of_styles
    from compiler.partition.given import lines as lines_of_given
    from compiler.plan.diff import limiting

    plan, p = result.plan, result.plan.predicted
    lines = [
        f"{plan.model['name']} on {plan.cluster.get('spec')}: {len(plan.layers)} layers on {len(plan.engines)} engines"
    ]
    layers: dict[str, int] = {}
    for layer in plan.layers:
        for engine in dict.fromkeys(s.engine for s in layer.slices):
            layers[engine] = layers.get(engine, 0) + 1
    rows = []
    for e in plan.engines:
        busy = p.get("dies", {}).get(f"{e.device}/{e.die}", {}).get("busy_permille")
        fold = "x".join(str(v) for v in e.fold.values())
        r = e.resources
        rows.append(
            (
                e.id,
                fold,
                layers.get(e.id, 0),
                "-" if busy is None else f"{busy / 10:.0f} %",
                r.lut,
                r.bram18,
                r.uram,
                r.dsp,
            )
        )
    lines += ["", table(rows, ("engine", "fold", "layers", "busy", "LUT", "BRAM18", "URAM", "DSP"), indent="  "), ""]
    interval, latency = _time(p.get("interval_ns", 0)), _time(p.get("latency_ns", 0))
    lines.append(f"  predicted    {p.get('fps', 0):,.1f} frames/s, interval {interval}, latency {latency}")
    thing = p.get("limiting")
    limit = thing.get("text") if isinstance(thing, dict) else limiting(plan)
    if limit:
        lines.append(f"  limited by   {limit}")
    lines += [f"  {what:<13}{line}" for what, line in (*lines_of_styles(p), *lines_of_given(p))]
    s = plan.solver
    lines.append(f"  solver       {s.status}, gap {100 * s.gap:.2f} % ({s.proved_by})")
    for segment in plan.host_segments:
        lines.append(f"  on the host  {segment.name}: {len(segment.nodes)} nodes, {segment.reason}")
    if result.verification is None:
        lines.append("  verified     no (--no-verify)")
    else:
        lines.append(f"  verified     {verification_line(result.verification)}")
    if result.accuracy is not None:
        lines.append(f"  quantized    {result.accuracy.sentence()}")
    size = sum(map(len, result.files.values()))
    lines.append(f"  bundle       {target}: {len(result.files)} files, {size / 2**20:.1f} MiB; read {target}/report.md")
    return "\n".join(lines)


def _time(nanoseconds: float) -> str:
    for limit, unit, digits in ((1e3, "ns", 0), (1e6, "us", 1), (1e9, "ms", 2)):
        if nanoseconds < limit:
            return f"{nanoseconds / (limit / 1e3):.{digits}f} {unit}"
    return f"{nanoseconds / 1e9:.2f} s"


def verification_line(found: VerifyReport) -> str:
    """One line: how much was compared and how many mismatches."""
    compared = f"{len(found.tensors):,} tensors, {found.frames} frames, {found.elements:,} elements"
    line = f"{compared}: {found.mismatches:,} mismatches"
    if not found.accumulators.wanted:
        return line
    return f"{line}; {found.accumulators.compared:,} accumulators: {found.accumulators.mismatches:,}"


def simulation_text(facts: dict[str, Any]) -> str:
    """The result of `fvc simulate`."""
    lines = []
    for name in ("interval", "latency"):
        simulated, told = facts[f"{name}_ps"] / 1000, facts["predicted"].get(f"{name}_ns")
        beside = ""
        if told and simulated:
            beside = f", predicted {_time(told)} ({100 * (told - simulated) / simulated:+.1f} %)"
        lines.append(f"{name}: {_time(simulated)}{beside}")
    lines.append(
        f"{facts['fps']:,.1f} frames/s, {facts['frames']} frames played{'' if facts['settled'] else ', not settled'}"
    )
    busiest = sorted(facts["utilisation"], key=lambda u: -u["percent"])[:8]
    rows = [(u["kind"], u["name"], f"{u['percent']:.1f} %") for u in busiest]
    return "\n".join([*lines, "", table(rows, ("busiest", "name", "used"))])
