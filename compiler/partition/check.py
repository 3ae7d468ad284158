"""placeholder"""
from __future__ import annotations
from dataclasses import dataclass
@dataclass(frozen=True, slots=True)
class Finding:
    code: str
    what: str
    where: tuple[str, ...] = ()
    help: tuple[str, ...] = ()
def check_plan(plan, graph, cluster):
    return []
