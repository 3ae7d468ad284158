"""What changed between two plans, layer by layer, and what it does to interval, latency and resources.

Layers are keyed by name. A layer is *moved* if it stands on other engines, *re-sliced* if its boxes or roles differ,
*re-folded* if the engines it stands on have another shape, *re-tiled* if its tiles or the memory of its weights differ,
*re-timed* if only its predicted cycles do. Pure data: `compiler.export.difftext` prints it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compiler.plan.model import EnginePlan, LayerPlan, Plan, ResourcePlan
from device_db.errors import FvcError

SCHEMA = "fvc.diff/1"
KINDS = ("added", "removed", "moved", "re-sliced", "re-folded", "re-tiled", "re-timed")
RESOURCES = ("lut", "ff", "bram18", "uram", "dsp")
METRICS = ("interval_ns", "latency_ns", "interval_cycles", "latency_cycles", "fps", "energy_mj")


@dataclass(frozen=True, slots=True)
class LayerChange:
    """One way in which one layer differs; `old` and `new` are short texts, "" where the layer is not there."""

    layer: str
    op: str
    kind: str  # one of KINDS
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class DieChange:
    """Resources of the engines on one die; None where the plan has no engine there."""

    die: str
    old: ResourcePlan | None
    new: ResourcePlan | None
    old_engines: str
    new_engines: str


@dataclass(frozen=True, slots=True)
class PlanDiff:
    """The difference; `layers` in the order of KINDS and then of the network. `metrics`: name -> (old, new)."""

    old_title: str
    new_title: str
    same_model: bool
    metrics: dict[str, tuple[float | None, float | None]]
    limits: tuple[str, str]  # the limiting thing, before and after
    layers: tuple[LayerChange, ...]
    unchanged: int
    dies: tuple[DieChange, ...]
    options: dict[str, tuple[Any, Any]]
    host_segments: dict[str, tuple[str | None, str | None]]  # name -> nodes
    traffic_bits: tuple[int, int]  # bits a frame over every channel between engines

    @property
    def empty(self) -> bool:
        """True if the two plans decide the same; predictions may still differ in nothing then."""
        return not (
            self.layers
            or self.options
            or self.host_segments
            or any(a != b for a, b in self.metrics.values())
            or any(d.old != d.new or d.old_engines != d.new_engines for d in self.dies)
            or self.traffic_bits[0] != self.traffic_bits[1]
        )


def diff_plans(old: Plan, new: Plan) -> PlanDiff:
    """Compares two valid plans."""
    before, after = {x.name: x for x in old.layers}, {x.name: x for x in new.layers}
    engines = {e.id: e for e in old.engines}, {e.id: e for e in new.engines}
    changes: list[LayerChange] = []
    unchanged = 0
    for name in [*(x.name for x in old.layers), *(x.name for x in new.layers if x.name not in before)]:
        found = _layer(before.get(name), after.get(name), *engines)
        changes += found
        unchanged += not found
    changes.sort(key=lambda c: KINDS.index(c.kind))
    return PlanDiff(
        old_title=_title(old),
        new_title=_title(new),
        same_model=old.model.get("sha256") == new.model.get("sha256"),
        metrics={k: (old.predicted.get(k), new.predicted.get(k)) for k in METRICS},
        limits=(limiting(old), limiting(new)),
        layers=tuple(changes),
        unchanged=unchanged,
        dies=_dies(old, new),
        options=_mapping(old.options, new.options),
        host_segments=_mapping(_segments(old), _segments(new)),
        traffic_bits=(_traffic(old), _traffic(new)),
    )


def limiting(plan: Plan) -> str:
    """The limiting thing of a plan in one phrase."""
    thing = plan.predicted.get("limiting", "")
    if isinstance(thing, dict):
        return " ".join(dict.fromkeys(str(thing[k]) for k in ("kind", "where") if thing.get(k)))
    return str(thing)


def _title(plan: Plan) -> str:
    cluster = plan.cluster
    return f"{plan.model.get('name', 'model')} on {cluster.get('spec') or cluster.get('name', 'devices')}"


def _layer(
    old: LayerPlan | None, new: LayerPlan | None, old_engines: dict[str, EnginePlan], new_engines: dict[str, EnginePlan]
) -> list[LayerChange]:
    if old is None and new is not None:
        return [LayerChange(new.name, new.op, "added", "", _where(new))]
    if old is not None and new is None:
        return [LayerChange(old.name, old.op, "removed", _where(old), "")]
    assert old is not None and new is not None
    facts = (
        ("moved", _where(old), _where(new)),
        ("re-sliced", _slices(old), _slices(new)),
        ("re-folded", _folds(old, old_engines), _folds(new, new_engines)),
        ("re-tiled", _tiles(old), _tiles(new)),
    )
    found = [LayerChange(new.name, new.op, kind, a, b) for kind, a, b in facts if a != b]
    if not found and (old.op, _cycles(old)) != (new.op, _cycles(new)):
        a, b = f"{_cycles(old):,} cycles", f"{_cycles(new):,} cycles"
        if old.op != new.op:
            a, b = f"{old.op} {a}", f"{new.op} {b}"
        found.append(LayerChange(new.name, new.op, "re-timed", a, b))
    return found


def _where(layer: LayerPlan) -> str:
    return ", ".join(dict.fromkeys(s.engine for s in layer.slices))


def _slices(layer: LayerPlan) -> str:
    parts = []
    for s in layer.slices:
        channels = f"channels {s.box[2]}-{s.box[3] - 1}" if len(layer.slices) > 1 else ""
        summed = f" inputs {s.reduce_from}-{s.reduce_to - 1}" if s.role == "partial" else ""
        parts.append(f"{'' if s.role == 'full' else s.role + ' '}{channels}{summed}".strip())
    shapes = ", ".join(dict.fromkeys(p for p in parts if p))
    return f"{layer.strategy} ({shapes})" if shapes else layer.strategy


def _folds(layer: LayerPlan, engines: dict[str, EnginePlan]) -> str:
    return ", ".join(dict.fromkeys(fold_text(engines[s.engine]) for s in layer.slices if s.engine in engines))


def fold_text(engine: EnginePlan) -> str:
    """ "tiled tm=64 tn=32" """
    return " ".join([engine.style, *(f"{k}={v}" for k, v in sorted(engine.fold.items()))])


def span(names: Sequence[str]) -> str:
    """ "conv1 … fc": layers in their order, by the first and the last."""
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"


def _tiles(layer: LayerPlan) -> str:
    return "; ".join(
        dict.fromkeys(" ".join([*(f"{k}={v}" for k, v in sorted(s.tile.items())), s.memory]) for s in layer.slices)
    )


def _cycles(layer: LayerPlan) -> int:
    return sum(s.cycles for s in layer.slices)


def _dies(old: Plan, new: Plan) -> tuple[DieChange, ...]:
    def total(plan: Plan) -> dict[str, tuple[ResourcePlan, str]]:
        found: dict[str, tuple[ResourcePlan, str]] = {}
        for e in plan.engines:
            key = f"{e.device}/{e.die}"
            have, text = found.get(key, (ResourcePlan(0, 0, 0, 0, 0), ""))
            amount = ResourcePlan(*(getattr(have, r) + getattr(e.resources, r) for r in RESOURCES))
            found[key] = (amount, f"{text}, {fold_text(e)}" if text else fold_text(e))
        return found

    a, b = total(old), total(new)
    none: tuple[None, str] = (None, "")
    return tuple(
        DieChange(die, a.get(die, none)[0], b.get(die, none)[0], a.get(die, none)[1], b.get(die, none)[1])
        for die in dict.fromkeys([*a, *b])
    )


def _mapping(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {k: (old.get(k), new.get(k)) for k in dict.fromkeys([*old, *new]) if old.get(k) != new.get(k)}


def _segments(plan: Plan) -> dict[str, str]:
    return {s.name: ", ".join(s.nodes) for s in plan.host_segments}


def _traffic(plan: Plan) -> int:
    return sum(c.bits_per_frame for c in plan.channels)


@dataclass(frozen=True, slots=True)
class Rule:
    """One --fail-on rule: 'latency>+5%' (change), 'interval>+1000' (change in ns), 'fps<200' (the new value)."""

    text: str
    metric: str
    above: bool
    amount: float
    relative: bool  # in percent
    change: bool

    def holds(self, diff: PlanDiff) -> bool:
        """Whether the rule's condition is true of this difference (and the command thus fails)."""
        old, new = rule_values(diff, self.metric)
        value = new - old if self.change else new
        if self.relative:
            value = 100.0 * (new - old) / old if old else (0.0 if new == old else float("inf"))
        return value > self.amount if self.above else value < self.amount


_RULE = re.compile(r"\s*([a-z0-9_]+)\s*([<>])\s*([+-]?)(\d+(?:\.\d+)?)(%?)\s*")
_ALIASES = {"interval": "interval_ns", "latency": "latency_ns", "energy": "energy_mj"}
_COUNTS = ("moved", "changed", "added", "removed", "devices")


def parse_rule(text: str) -> Rule:
    """A Rule from its text. Raises FVC001."""
    match = _RULE.fullmatch(text)
    names = sorted({*_ALIASES, *METRICS, *RESOURCES, *_COUNTS})
    if match is None or match[1] not in names:
        raise FvcError(
            "FVC001",
            f"--fail-on does not understand '{text}'",
            help=("write METRIC>+5% or METRIC<200 with METRIC one of " + ", ".join(names),),
        )
    name, operator, sign, number, percent = match.groups()
    if percent and not sign:
        sign = "+"
    amount = float(number) * (-1 if sign == "-" else 1)
    return Rule(text, _ALIASES.get(name, name), operator == ">", amount, bool(percent), bool(sign))


def rule_values(diff: PlanDiff, metric: str) -> tuple[float, float]:
    """Value before and after of whatever a rule may name."""
    if metric in METRICS:
        old, new = diff.metrics[metric]
        return old or 0.0, new or 0.0
    if metric in RESOURCES:
        old_sum, new_sum = (sum(getattr(r, metric) for r in side) for side in _sides(diff))
        return float(old_sum), float(new_sum)
    if metric == "devices":
        devices = [d.die.split("/")[0] for d in diff.dies if d.old], [d.die.split("/")[0] for d in diff.dies if d.new]
        return float(len(set(devices[0]))), float(len(set(devices[1])))
    kinds = KINDS if metric == "changed" else (metric,)
    return 0.0, float(len({c.layer for c in diff.layers if c.kind in kinds}))


def _sides(diff: PlanDiff) -> tuple[list[ResourcePlan], list[ResourcePlan]]:
    return [d.old for d in diff.dies if d.old], [d.new for d in diff.dies if d.new]
