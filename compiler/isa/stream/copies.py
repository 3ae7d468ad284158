"""Which copy of the net a unit belongs to, read off the binaries alone.

Needs programs as read. With R replicas the host deals frames out in turn; a host message says whose copy it serves, and
what streams and channels join to it is of the same copy. Gives a number a unit, or says where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.isa.program import DeviceProgram

Unit = tuple[int, int]  # program, unit


def copies_of(programs: Sequence[DeviceProgram]) -> tuple[dict[Unit, int], list[Unit]]:
    """(copy of every unit, units without one or with several). Streams must lead to units that are there."""
    units = [(p, u) for p, d in enumerate(programs) if d.fabric is not None for u in range(len(d.fabric.units()))]
    if not programs or programs[0].replicas == 1:
        return dict.fromkeys(units, 0), []
    parent: dict[object, object] = {}

    def find(x: object) -> object:
        while parent.setdefault(x, x) != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        return x

    for p, d in enumerate(programs):
        if d.fabric is None:
            continue
        for u, ins in enumerate(d.fabric.units()):
            if ins.op in ("SRC", "SNK"):
                parent[find((p, u))] = find(ins.fields["channel"])
        for con in d.fabric.streams():
            parent[find((p, con.fields["source"]))] = find((p, con.fields["target"]))
    said: dict[object, set[int]] = {}
    for d in programs:
        for m in d.host:
            said.setdefault(find(m.channel), set()).add(m.replica)
    found: dict[Unit, int] = {}
    strange = []
    for unit in units:
        own = said.get(find(unit), set())
        if len(own) != 1:
            strange.append(unit)
        found[unit] = min(own, default=0)
    return found, strange
