"""Problem files into cases: one case object, or an object with `cases`; fixed kernels or fold and place by fields.

Guarantees that every id that is named exists, every kernel has a version and every amount is a number >= 0; raises
FvcError FVC002, FVC240-FVC243. docs/floorplan.md describes the fields.
"""

from __future__ import annotations

from fractions import Fraction
from math import lcm
from pathlib import Path

from compiler.floorplan.fields import Field, identities, load
from compiler.floorplan.problem import Average, Boundary, Case, Connection, Edge, FixedCase, JointCase, Versions
from compiler.partition.constraints.rows import usable

LARGEST_COST = 1 << 30


def read_problem(path: Path) -> tuple[list[Case], bool]:
    """The cases of a file, and whether it was a file of several (`cases`) rather than one case object."""
    document = Field(load(path), "", path.name)
    if not isinstance(document.value, dict):
        raise document.wrong("the problem is no JSON object", code="FVC240")
    several = document.get("cases")
    listed = [document] if several is None else several.items(least=1)
    default = document.get("resources")
    return [_case(f, default if several is not None else None, i) for i, f in enumerate(listed)], several is not None


def _case(f: Field, resources: Field | None, position: int) -> Case:
    named = f.get("name")
    name = named.text() if named is not None else f"case{position}"
    if f.get("device_set") is not None:
        return _fixed(f, name, resources)
    if f.get("boundaries") is not None:
        return _joint(f, name, resources)
    raise f.wrong("neither 'device_set' (fixed kernels) nor 'boundaries' (fold and place) is there", code="FVC240")


def _types(f: Field, given: Field | None, slots: list[Field]) -> tuple[str, ...]:
    """Resource types: those listed, else those of the slots' capacities in the order of the first slot."""
    own = f.get("resources")
    listed = own if own is not None else given
    if listed is not None:
        return tuple(dict.fromkeys(r.text() for r in listed.items(least=1)))
    return tuple(dict.fromkeys(r for s in slots for r in s["capacity"].mapping()))


def _versions(nodes: list[Field], types: tuple[str, ...], other: frozenset[str]) -> Versions:
    out = []
    for node in nodes:
        listed = node["versions"].items()
        if not listed:
            raise node.wrong(f"kernel {node['id'].identity()} has no version", code="FVC243")
        rows = []
        for v in listed:
            unknown = [k for k in v.mapping() if k not in types and k not in other]
            if unknown:
                raise v.wrong(f"no slot has the resource '{unknown[0]}'")
            rows.append(tuple(0 if (a := v.get(t)) is None else a.demand() for t in types))
        out.append(tuple(rows))
    return tuple(out)


def _nodes(f: Field) -> tuple[list[Field], dict[int, int], tuple[str, ...]]:
    """The kernels by id, which must be 0, 1, 2 …: the answer's list is indexed by them."""
    nodes = f["nodes"].items(least=1)
    found = identities(nodes, "id", "kernel")
    for want in range(len(nodes)):
        if want not in found:
            raise f["nodes"].wrong(f"kernel ids must count from 0: {want} is missing", code="FVC242")
    ordered = [nodes[found[i]] for i in range(len(nodes))]
    names = tuple(str(i) if (n := node.get("name")) is None else n.text() for i, node in enumerate(ordered))
    return ordered, {i: i for i in found}, names


def _anchors(f: Field, nodes: dict[int, int], slots: dict[int, int]) -> tuple[frozenset[int], ...]:
    allowed = [frozenset(slots.values()) for _ in nodes]
    for pair in [] if (a := f.get("abs_anchors")) is None else a.items():
        parts = pair.items()
        if len(parts) != 2:
            raise pair.wrong("an anchor is [kernel, [allowed slots]]")
        node = parts[0].known(nodes, "kernel")
        listed = parts[1].items() if isinstance(parts[1].value, list) else [parts[1]]
        allowed[node] &= frozenset(s.known(slots, "slot") for s in listed)
    return tuple(allowed)


def _limit(f: Field) -> Fraction:
    value = f.number()
    if value > 1000:
        raise f.wrong(f"{f.value} is no share of a capacity")
    return value


def _fixed(f: Field, name: str, given: Field | None) -> FixedCase:
    nodes, node_index, names = _nodes(f)
    device = f["device_set"]
    slots = device["slots"].items(least=1)
    slot_index = identities(slots, "slot", "slot")
    types = _types(f, given, slots)
    amounts = [tuple(0 if (c := s["capacity"].get(t)) is None else c.supply() for t in types) for s in slots]
    limits = dict.fromkeys(types, Fraction(1))
    if (stated := device.get("limits")) is not None:
        for t in stated.mapping():
            if t not in limits:
                raise stated.wrong(f"a limit for '{t}', which no slot has")
            limits[t] = _limit(stated[t])
    averages = []
    for a in [] if (listed := device.get("avg_constraints")) is None else listed.items():
        which = []
        for r in a["resources"].items(least=1):
            if r.text() not in types:
                raise r.wrong(f"no slot has the resource '{r.text()}'")
            which.append(types.index(r.text()))
        averages.append(Average(tuple(which), _limit(a["limit"])))
    raw = []
    seen = set()
    for c in device["connections"].items():
        src, dst = c["src"].known(slot_index, "slot"), c["dst"].known(slot_index, "slot")
        if src == dst or (src, dst) in seen:
            raise c.wrong("a connection joins two slots, and each ordered pair once")
        seen.add((src, dst))
        cost = c["cost"].number()
        if cost > LARGEST_COST:
            raise c["cost"].wrong(f"a cost of more than {LARGEST_COST}")
        raw.append((src, dst, cost, _optional(c, "max_wires"), _optional(c, "max_bps")))
    scale = lcm(*(cost.denominator for _, _, cost, _, _ in raw)) if raw else 1
    if scale > 10**6:
        raise device["connections"].wrong("costs have more than six decimals")
    edges = [
        Edge(
            e["src"].known(node_index, "kernel"),
            e["dst"].known(node_index, "kernel"),
            e["wires"].demand(),
            e["bps"].demand(),
        )
        for e in f["edges"].items()
    ]
    together = []
    for group in [] if (rel := f.get("rel_anchors")) is None else rel.items():
        together.append(tuple(k.known(node_index, "kernel") for k in group.items(least=2)))
    return FixedCase(
        name, types, names, _versions(nodes, types, frozenset()), tuple(edges), tuple(slot_index),
        tuple(amounts), tuple(tuple(usable(c, limits[t]) for c, t in zip(row, types, strict=True)) for row in amounts),
        tuple(averages), tuple(Connection(s, d, int(cost * scale), w, b) for s, d, cost, w, b in raw),
        _anchors(f, node_index, slot_index), tuple(together), scale,
    )  # fmt: skip


def _optional(f: Field, key: str) -> int | None:
    found = f.get(key)
    return None if found is None or found.value is None else found.supply()


def _joint(f: Field, name: str, given: Field | None) -> JointCase:
    nodes, node_index, names = _nodes(f)
    slots = f["slots"].items(least=1)
    slot_index = identities(slots, "slot", "slot")
    types = _types(f, given, slots)
    capacity = tuple(tuple(0 if (c := s["capacity"].get(t)) is None else c.supply() for t in types) for s in slots)
    cycles = []
    for node in nodes:
        picked = tuple(v["cycles"].demand() for v in node["versions"].items())
        if any(c < 1 for c in picked):
            raise node["versions"].wrong("a version takes at least one cycle")
        cycles.append(picked)
    boundaries: list[Boundary | None] = [None] * (len(slots) - 1)
    for b in f["boundaries"].items():
        ends = b["between"].items(least=2)
        at = [e.known(slot_index, "slot") for e in ends]
        if len(at) != 2 or abs(at[0] - at[1]) != 1:
            raise b["between"].wrong("a boundary stands between two neighbours of the list of slots")
        if boundaries[min(at)] is not None:
            raise b.wrong("this boundary is listed twice")
        kind = b["kind"].text()
        if kind == "sll":
            boundaries[min(at)] = Boundary(b["wires"].supply(), None)
        elif kind == "link":
            boundaries[min(at)] = Boundary(None, b["bits_per_cycle"].supply())
        else:
            raise b["kind"].wrong(f"a boundary is 'sll' or 'link', not '{kind}'")
    devices = tuple(i if (d := s.get("device")) is None else d.identity() for i, s in enumerate(slots))
    return JointCase(
        name, types, names, tuple(n["out_bits"].demand() for n in nodes), tuple(cycles),
        _versions(nodes, types, frozenset({"cycles"})),
        tuple((e["src"].known(node_index, "kernel"), e["dst"].known(node_index, "kernel")) for e in f["edges"].items()),
        tuple(slot_index), capacity, tuple(b or Boundary(None, None) for b in boundaries),
        _anchors(f, node_index, slot_index), devices,
    )  # fmt: skip
