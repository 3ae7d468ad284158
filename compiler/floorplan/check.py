"""Judges answers to floorplan problems: recomputes objective and every constraint from problem and answer alone.

Needs the problem and the assignment; knows no solver and none of the solvers' constraint rows. Findings are plain
records, the worst first within a family; an empty list means that the answer is legal and its objective right.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from compiler.floorplan.problem import Answer, Case, FixedCase, JointCase


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: family, what it says, demand against bound."""

    family: str
    where: str
    demand: str
    bound: str

    def __str__(self) -> str:
        return f"{self.family} on {self.where}: {self.demand}, allowed {self.bound}"


def check(case: Case, answer: Answer) -> list[Violation]:
    """Everything that is wrong with an answer that has an assignment; nothing is judged without one."""
    if not answer.assignment:
        return []
    found = _shape(case, answer)
    if found:
        return found
    return _fixed(case, answer) if isinstance(case, FixedCase) else _joint(case, answer)


def _shape(case: Case, answer: Answer) -> list[Violation]:
    nodes = len(case.versions)
    if len(answer.assignment) != nodes:
        return [Violation("assignment", "the list", f"{len(answer.assignment)} entries", f"{nodes}")]
    out = []
    for v, (slot, version) in enumerate(answer.assignment):
        name = case.node_names[v]
        if not 0 <= slot < len(case.slot_ids):
            out.append(Violation("assignment", name, f"slot {slot}", f"0..{len(case.slot_ids) - 1}"))
        elif not 0 <= version < len(case.versions[v]):
            out.append(Violation("assignment", name, f"version {version}", f"0..{len(case.versions[v]) - 1}"))
        elif slot not in case.allowed[v]:
            allowed = ", ".join(str(case.slot_ids[s]) for s in sorted(case.allowed[v]))
            out.append(Violation("anchors", name, f"slot {case.slot_ids[slot]}", allowed or "no slot"))
    return out


def _use(case: Case, answer: Answer) -> list[list[int]]:
    """Amount a slot and resource type."""
    total = [[0] * len(case.resources) for _ in case.slot_ids]
    for v, (slot, version) in enumerate(answer.assignment):
        for r, amount in enumerate(case.versions[v][version]):
            total[slot][r] += amount
    return total


def _fixed(case: FixedCase, answer: Answer) -> list[Violation]:
    out = []
    use = _use(case, answer)
    for s, own in enumerate(case.slot_ids):
        for r, name in enumerate(case.resources):
            if use[s][r] > case.budget[s][r]:
                out.append(Violation("resources", f"slot {own}", f"{use[s][r]} {name}", f"{case.budget[s][r]}"))
        for a in case.averages:
            share = sum(
                (Fraction(use[s][r], case.capacity[s][r]) for r in a.listed if case.capacity[s][r] > 0), Fraction(0)
            )
            if share > a.limit * len(a.listed):
                names = "+".join(case.resources[r] for r in a.listed)
                out.append(
                    Violation(
                        "average utilisation",
                        f"slot {own} ({names})",
                        f"{float(share):.6f}",
                        f"{float(a.limit * len(a.listed)):.6f}",
                    )
                )
    for group in case.together:
        if len({answer.assignment[v][0] for v in group}) > 1:
            names = ", ".join(case.node_names[v] for v in group)
            out.append(Violation("anchors", names, "several slots", "one slot"))
    by_pair = {(c.src, c.dst): c for c in case.connections}
    wires: dict[tuple[int, int], int] = {}
    bps: dict[tuple[int, int], int] = {}
    cost = 0
    for e in case.edges:
        ends = (answer.assignment[e.src][0], answer.assignment[e.dst][0])
        if ends[0] == ends[1]:
            continue
        where = f"slots {case.slot_ids[ends[0]]} -> {case.slot_ids[ends[1]]}"
        if ends not in by_pair:
            edge = f"{case.node_names[e.src]} -> {case.node_names[e.dst]}"
            out.append(Violation("forbidden connections", where, edge, "no edge"))
            continue
        cost += by_pair[ends].cost
        wires[ends] = wires.get(ends, 0) + e.wires
        bps[ends] = bps.get(ends, 0) + e.bps
    for ends, c in sorted(by_pair.items()):
        where = f"slots {case.slot_ids[ends[0]]} -> {case.slot_ids[ends[1]]}"
        if c.max_wires is not None and wires.get(ends, 0) > c.max_wires:
            out.append(Violation("wires", where, f"{wires[ends]}", f"{c.max_wires}"))
        if c.max_bps is not None and bps.get(ends, 0) > c.max_bps:
            out.append(Violation("bits a second", where, f"{bps[ends]}", f"{c.max_bps}"))
    return out or _objective(answer, cost)


def _joint(case: JointCase, answer: Answer) -> list[Violation]:
    out = []
    use = _use(case, answer)
    for s, own in enumerate(case.slot_ids):
        for r, name in enumerate(case.resources):
            if use[s][r] > case.capacity[s][r]:
                out.append(Violation("resources", f"slot {own}", f"{use[s][r]} {name}", f"{case.capacity[s][r]}"))
    interval = max(case.cycles[v][version] for v, (_, version) in enumerate(answer.assignment))
    for b, boundary in enumerate(case.boundaries):
        passing = []
        for src, dst in case.edges:
            low, high = sorted((answer.assignment[src][0], answer.assignment[dst][0]))
            if low <= b < high:
                passing.append(case.out_bits[src])
        where = f"boundary {case.slot_ids[b]}|{case.slot_ids[b + 1]}"
        if boundary.wires is not None:
            wires = sum(max(8, 2 * ((bits + interval - 1) // interval)) for bits in passing)
            if wires > boundary.wires:
                out.append(Violation("wires", where, f"{wires}", f"{boundary.wires}"))
        elif boundary.bits_per_cycle is not None:
            if sum(passing) > boundary.bits_per_cycle * interval:
                out.append(Violation("bits a frame", where, f"{sum(passing)}", f"{boundary.bits_per_cycle * interval}"))
        elif passing:
            out.append(Violation("forbidden connections", where, f"{len(passing)} edges", "no edge"))
    return out or _objective(answer, interval)


def _objective(answer: Answer, value: int) -> list[Violation]:
    out = []
    if answer.objective != value:
        out.append(Violation("objective", answer.name, f"{answer.objective} claimed", f"{value} recomputed"))
    if answer.bound is not None and answer.bound > value:
        out.append(Violation("bound", answer.name, f"{answer.bound}", f"at most {value}"))
    if answer.status == "OPTIMAL" and answer.bound != value:
        out.append(Violation("status", answer.name, "OPTIMAL", f"bound {answer.bound} is not {value}"))
    return out


def crossing_bits(case: JointCase, assignment: tuple[tuple[int, int], ...]) -> int:
    """Crossings weighted by out_bits: the second objective of a joint problem."""
    return sum(case.out_bits[a] * abs(assignment[a][0] - assignment[b][0]) for a, b in case.edges)
