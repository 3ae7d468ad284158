"""The report of a compile (report.md, report.html): where everything stands, what limits it, what would relieve it.

Says only what plan, folding metadata and judges say; computes sums and shares, decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compiler.export.document import (
    Bar,
    Block,
    Bullets,
    Heading,
    Paragraph,
    Preformatted,
    Table,
    as_html,
    as_markdown,
    bar,
)
from compiler.export.roofline import HEAD, cells, pictures, roofline
from compiler.plan.diff import RESOURCES, fold_text, limiting, span
from compiler.plan.model import Plan
from device_db.model import Cluster, Resources

if TYPE_CHECKING:
    from compiler.export.accuracy import Accuracy
    from compiler.isa.program import DeviceProgram

MODES = ("fixed", "threshold", "fp32")


def report(
    plan: Plan,
    cluster: Cluster,
    programs: Sequence[DeviceProgram],
    verification: dict[str, Any] | None,
    accuracy: Accuracy | None,
) -> tuple[str, str]:
    """report.md and report.html."""
    blocks = compose(plan, cluster, programs, verification, accuracy)
    return as_markdown(blocks), as_html(_title(plan), blocks)


def _title(plan: Plan) -> str:
    return f"{plan.model.get('name', 'model')} on {plan.cluster.get('spec') or plan.cluster.get('name', 'devices')}"


def compose(
    plan: Plan,
    cluster: Cluster,
    programs: Sequence[DeviceProgram],
    verification: dict[str, Any] | None,
    accuracy: Accuracy | None,
) -> list[Block]:
    """The report's blocks in reading order."""
    blocks: list[Block] = [Heading(_title(plan), 1), *_speed(plan), *_truth(verification, accuracy)]
    if plan.fallbacks:
        blocks += [Heading("Fallbacks"), Bullets(plan.fallbacks)]
    blocks += _styles(plan)
    blocks += _given(plan)
    blocks += _placement(plan, cluster)
    blocks += _regions(plan)
    blocks += _traffic(plan)
    blocks += _requantisers(programs)
    blocks += _solver(plan)
    blocks += _host(plan)
    blocks += _layers(plan)
    return blocks + _roofline(plan, programs)


def _speed(plan: Plan) -> list[Block]:
    p = plan.predicted
    rows = [
        ("interval", f"{p.get('interval_ns', 0):,} ns", f"{p.get('interval_cycles', 0):,} cycles"),
        ("latency", f"{p.get('latency_ns', 0):,} ns", f"{p.get('latency_cycles', 0):,} cycles"),
        ("frames a second", f"{p.get('fps', 0):,.1f}", ""),
    ]
    if p.get("energy_mj"):
        rows.append(("energy a frame", f"{p['energy_mj']:,.2f} mJ", ""))
    note = f"Predicted; cycles are those of the reference clock, {p.get('clock_mhz', 0):g} MHz."
    blocks: list[Block] = [Table(("predicted", "time", "in the reference clock"), tuple(rows)), Paragraph(note)]
    thing = p.get("limiting")
    if thing:
        blocks.append(Heading("What limits it"))
        blocks.append(Paragraph(str(thing.get("text") or limiting(plan)) if isinstance(thing, dict) else str(thing)))
        relief = thing.get("relief") if isinstance(thing, dict) else None
        if relief:
            blocks += [Paragraph("What would relieve it:"), Bullets(tuple(map(str, relief)))]
    auto = p.get("replicas_auto")
    if isinstance(auto, dict) and auto.get("replicas") not in (None, plan.replicas):
        blocks.append(
            Paragraph(
                f"--replicas auto would give {auto['replicas']} replicas and {auto.get('fps', 0):,.1f} frames a second."
            )
        )
    return blocks


def _styles(plan: Plan) -> list[Block]:
    """What each style would give, where all were looked at (--style auto)."""
    if "styles" not in plan.predicted:
        return []
    from compiler.partition.auto.figures import lines

    return [Heading("Styles"), Table(("style", "gives"), tuple(lines(plan.predicted)))]


def _given(plan: Plan) -> list[Block]:
    """What someone brought (--fold-from, --floorplan-from) beside what was found."""
    if "given" not in plan.predicted:
        return []
    from compiler.partition.given import lines

    rows = lines(plan.predicted)
    return [Heading("Given and found"), Table(("plan", "does"), tuple(rows))] if rows else []


def _truth(verification: dict[str, Any] | None, accuracy: Accuracy | None) -> list[Block]:
    blocks: list[Block] = [Heading("Is it right")]
    if verification is None:
        blocks.append(Paragraph("Not verified: the binaries were not run (--no-verify)."))
    else:
        blocks.append(Paragraph(verification_sentence(verification)))
    if accuracy is not None:
        blocks.append(Paragraph(f"Quantization: {accuracy.sentence()}. This is a measurement, no verification."))
    return blocks


def verification_sentence(found: dict[str, Any]) -> str:
    """One sentence of verify.json."""
    return (
        f"The binaries were run and compared with ONNX Runtime on the integer model: {found['tensors']:,} tensors, "
        f"{found['frames']:,} frames, {found['elements']:,} elements, {found['mismatches']:,} mismatches."
    )


def _placement(plan: Plan, cluster: Cluster) -> list[Block]:
    usable = {cluster.die_name(ref): cluster.die(ref).usable for ref in cluster.dies}
    busy = plan.predicted.get("dies", {})
    layers: dict[str, list[str]] = {}
    cycles: dict[str, int] = {}
    for layer in plan.layers:
        for s in layer.slices:
            names = layers.setdefault(s.engine, [])
            if layer.name not in names:
                names.append(layer.name)
            cycles[s.engine] = cycles.get(s.engine, 0) + s.cycles
    rows: list[tuple[object, ...]] = []
    needs: list[tuple[object, ...]] = []
    used: dict[str, Resources] = {}
    for e in plan.engines:
        die = f"{e.device}/{e.die}"
        share = busy.get(die, {}).get("busy_permille") if isinstance(busy, dict) else None
        names = layers.get(e.id, [])
        told = span(names) if names else "none"
        rows.append((e.id, fold_text(e), len(names), told, cycles.get(e.id, 0), "-" if share is None else Bar(share)))
        used[die] = used.get(die, Resources()) + Resources(*(getattr(e.resources, r) for r in RESOURCES))
    for die, have in usable.items():
        amount = used.get(die, Resources())
        needs.append((die, *(bar(getattr(amount, r), getattr(have, r)) for r in RESOURCES)))
    head = ("engine", "shape", "layers", "which", "cycles a frame", "busy")
    blocks: list[Block] = [Heading("Placement"), Table(head, tuple(rows))]
    blocks += [Heading("Resources"), Paragraph("Share of what a design may use on each die.")]
    return [*blocks, Table(("die", *(r.upper() for r in RESOURCES)), tuple(needs))]


def _regions(plan: Plan) -> list[Block]:
    """What streams beside tiled engines, and what passes its bridges."""
    if not plan.regions:
        return []
    rows = []
    for r in plan.regions:
        ends = [f"{'out' if b.out else 'in'}: {b.tensor} ({b.frames} frames)" for b in r.bridges]
        rows.append((r.name, f"{r.device}/{r.die}", len(r.layers), span(r.layers), r.stage, r.lag,
                     f"{r.pace_ps // 1000:,} ns", f"{r.latency_ps // 1000:,} ns", "; ".join(ends)))  # fmt: skip
    head = ("region", "bridges on", "layers", "which", "stage", "lag", "pace", "latency", "bridges")
    note = "Layers that stream, joined by streams; bridges hold whole frames between them and all else."
    return [Heading("Regions"), Paragraph(note), Table(head, tuple(rows))]


def _traffic(plan: Plan) -> list[Block]:
    rows: list[tuple[object, ...]] = []
    for kind, amount, unit in (("links", "bits_per_frame", 8), ("banks", "bytes_per_frame", 1)):
        table = plan.predicted.get(kind, {})
        for name, facts in sorted(table.items()) if isinstance(table, dict) else ():
            share = facts.get("utilisation_permille")
            rows.append((name, kind[:-1], facts.get(amount, 0) // unit, "-" if share is None else Bar(share)))
    return [Heading("Links and memory"), Table(("name", "kind", "bytes a frame", "used"), tuple(rows))] if rows else []


def requantiser_modes(programs: Sequence[DeviceProgram]) -> tuple[dict[str, int], dict[str, int]]:
    """Proved requantiser forms over the folding metadata: channels of accumulators, and additions or products."""
    channels, operators = dict.fromkeys(MODES, 0), dict.fromkeys(MODES, 0)
    rows = [row for program in programs for core in program.cores for row in core.folding]
    for row in (*rows, *(row for program in programs if program.fabric for row in program.fabric.folding)):
        facts = row.get("requantiser")
        if not isinstance(facts, dict):
            continue
        for mode in MODES:
            channels[mode] += int(facts.get("modes", {}).get(mode, 0))
            operators[mode] += facts.get("mode") == mode
    return channels, operators


def _requantisers(programs: Sequence[DeviceProgram]) -> list[Block]:
    channels, operators = requantiser_modes(programs)
    if not sum(channels.values()) + sum(operators.values()):
        return []
    note = "Each form is proved equal to the float32 requantisation over every accumulator or operand that can occur."
    rows: list[tuple[object, ...]] = []
    for kind, counts in (("channels of accumulators", channels), ("element-wise operators", operators)):
        whole = sum(counts.values())
        rows += [(kind, mode, n, bar(n, whole)) for mode, n in counts.items() if whole]
    return [Heading("Requantisers"), Paragraph(note), Table(("of", "form", "number", "share"), tuple(rows))]


def _solver(plan: Plan) -> list[Block]:
    s = plan.solver
    what = "interval in cycles" if plan.options.get("objective", "throughput") == "throughput" else "latency in cycles"
    rows = (
        ("status", s.status),
        (what, s.objective),
        ("proved bound", s.bound),
        ("gap", f"{100 * s.gap:.2f} %"),
        ("proved by", s.proved_by),
        ("the proof holds over", "; ".join(s.proved_scope)),
        ("seed, workers", f"{s.seed}, {s.workers}"),
    )
    blocks: list[Block] = [Heading("Solver"), Table(("", ""), rows)]
    return [*blocks, Bullets(s.notes)] if s.notes else blocks


def _host(plan: Plan) -> list[Block]:
    if not plan.host_segments:
        return []
    rows = tuple((s.name, len(s.nodes), s.reason, f"{s.time_ns:,} ns") for s in plan.host_segments)
    return [Heading("Host segments"), Table(("segment", "nodes", "why", "time a frame"), rows)]


def _layers(plan: Plan) -> list[Block]:
    rows = []
    for layer in plan.layers:
        engines = ", ".join(dict.fromkeys(s.engine for s in layer.slices))
        memory = ", ".join(dict.fromkeys(s.memory for s in layer.slices))
        stages = ", ".join(dict.fromkeys(str(s.stage) for s in layer.slices))
        rows.append(
            (layer.name, layer.op, layer.strategy, engines, stages, memory, sum(s.cycles for s in layer.slices))
        )
    return [
        Heading("Layers"),
        Table(("layer", "operator", "strategy", "engine", "stage", "weights", "cycles"), tuple(rows)),
    ]


def _roofline(plan: Plan, programs: Sequence[DeviceProgram]) -> list[Block]:
    place = {layer.name: k for k, layer in enumerate(plan.layers)}
    rows = sorted(roofline(programs), key=lambda r: place.get(r.layer, len(place)))
    if not rows:
        return []
    note = (
        "Each layer by what it computes for every byte that it moves: the roof is what array, memory bank and links "
        "would allow, attained what its predicted time gives; bound by names what its longest slice keeps busy longest."
    )
    if plan.regions:
        note = f"Of the layers on tiled engines. {note}"
    drawn = [Preformatted(p) for p in pictures(programs)]
    return [Heading("Rooflines"), Paragraph(note), *drawn, Table(HEAD, tuple(cells(r) for r in rows))]
