"""`fvc explain DIR [LAYER]`: the facts of a plan that answer why, in plain sentences."""

from __future__ import annotations

from compiler.partition.auto.figures import lines
from compiler.plan.diff import fold_text, limiting, span
from compiler.plan.model import Plan, RegionPlan
from device_db.errors import FvcError


def explain_plan(plan: Plan) -> dict[str, str]:
    """What limits the plan and what would relieve it."""
    p, s = plan.predicted, plan.solver
    size = f"{len(plan.layers)} layers, {len(plan.engines)} engines"
    times = f"interval {p.get('interval_ns', 0):,} ns, latency {p.get('latency_ns', 0):,} ns"
    facts = {
        "plan": f"{plan.model.get('name')} on {plan.cluster.get('spec')}, {size}",
        "speed": f"{p.get('fps', 0):,.1f} frames a second, {times}",
        "limited by": limiting(plan),
        "solver": f"{s.status}, gap {100 * s.gap:.2f} %, proved by {s.proved_by} over {'; '.join(s.proved_scope)}",
    }
    thing = p.get("limiting")
    if isinstance(thing, dict):
        facts["limited by"] = str(thing.get("text") or facts["limited by"])
        for k, lever in enumerate(thing.get("relief", ()), 1):
            facts[f"relief {k}"] = str(lever)
    facts |= {r.name: _region(r) for r in plan.regions}
    facts |= {f"style {style}": text for style, text in lines(p)}
    for segment in plan.host_segments:
        facts[f"on the host: {segment.name}"] = f"{segment.reason}; {segment.time_ns:,} ns a frame"
    return facts


def _region(r: RegionPlan) -> str:
    """What streams together, how fast, and through which bridges."""
    took = f"a frame every {r.pace_ps // 1000:,} ns, {r.latency_ps // 1000:,} ns through it"
    ends = ", ".join(f"{b.tensor} {'out' if b.out else 'in'}" for b in r.bridges)
    return f"{len(r.layers)} layers ({span(r.layers)}) on {r.device}, {took}; bridges on {r.die}: {ends}"


def explain_layer(plan: Plan, name: str) -> dict[str, str]:
    """Why a layer stands where it does: its slices, what it reads and writes, and its share of its engine."""
    layer = next((x for x in plan.layers if x.name == name), None)
    if layer is None:
        import difflib

        near = difflib.get_close_matches(name, [x.name for x in plan.layers], n=3, cutoff=0.3)
        raise FvcError(
            "FVC006", f"the plan has no layer '{name}'", help=(f"near names: {', '.join(near)}",) if near else ()
        )
    facts = {"layer": f"{layer.name} ({layer.op}), {layer.strategy}"}
    engines = {e.id: e for e in plan.engines}
    for r in plan.regions:
        if name in r.layers:
            facts[f"streams in {r.name}"] = _region(r)
    for s in layer.slices:
        load = sum(o.cycles for x in plan.layers for o in x.slices if o.engine == s.engine)
        share = 100 * s.cycles / load if load else 0.0
        engine = engines.get(s.engine)
        tile = "tile " + " ".join(f"{k}={v}" for k, v in sorted(s.tile.items()))
        if engine is not None and engine.style == "streaming":
            tile = f"{fold_text(engine)}, {engine.parameters['variant']}"
        busy = f"{s.cycles:,} cycles ({share:.1f} % of its engine)"
        facts[s.task] = f"{s.role} on {s.engine}, stage {s.stage}, {busy}, {_loads(s.memory)}, {tile}"
    anchored = [a for a in plan.options.get("anchors", ()) if a[0] == name]
    if anchored:
        facts["fixed by"] = f"--anchor {anchored[0][0]}={anchored[0][1]}"
    channels = [c for c in plan.channels if c.tensor == name or c.tensor.startswith(f"{name}.partial")]
    for c in channels:
        facts[f"sends {c.tensor} to {c.target}"] = (
            f"from {c.source} by {', '.join(c.route)}: {c.bits_per_frame // 8:,} bytes a frame"
        )
    return facts


def _loads(memory: str) -> str:
    """A slice's style in words: where its weights are, and what of its input it loads itself."""
    return f"weights stream, {memory}" if memory.startswith("inputs ") else f"weights {memory}"
