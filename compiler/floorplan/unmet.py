"""Why a floorplan problem has no answer: the first constraint family that no placement meets, with demand and bound.

Needs a case that was found infeasible, or not solved within its time; guarantees an FvcError with exit code 1. Families
are tried from the plainest: anchors, one kernel against one slot, each resource type of all slots together, all types
together; what remains is named as the families that only together cannot be met.
"""

from __future__ import annotations

from compiler.floorplan.problem import Case, FixedCase
from device_db.errors import FvcError


def infeasible(case: Case, proved_by: str) -> FvcError:
    """The report of a case that is proved to have no placement."""
    return _anchors(case) or _one_kernel(case) or _all_slots(case) or _together(case, proved_by)


def undecided(case: Case, limit: float) -> FvcError:
    """The report of a case without a plan within its time."""
    return FvcError(
        "FVC252",
        f"no placement of '{case.name}' found within {limit:g} deterministic seconds, and none excluded",
        help=("raise --time-limit", "free anchors, or offer smaller versions"),
        exit_code=1,
    )


def _anchors(case: Case) -> FvcError | None:
    for v in case.nodes:
        if not case.allowed[v]:
            return FvcError(
                "FVC251",
                f"the anchors of kernel '{case.node_names[v]}' exclude each other",
                where=("constraint: anchors", case.name),
                help=("drop one of its anchors",),
                exit_code=1,
            )
    return None


def _budget(case: Case) -> tuple[tuple[int, ...], ...]:
    return case.budget if isinstance(case, FixedCase) else case.capacity


def _one_kernel(case: Case) -> FvcError | None:
    budget = _budget(case)
    for v in case.nodes:
        slots = sorted(case.allowed[v])
        if any(all(a <= b for a, b in zip(k, budget[s], strict=True)) for k in case.versions[v] for s in slots):
            continue
        best = None  # the version and slot that are least over, and by which type
        for s in slots:
            for k in case.versions[v]:
                over = max((a - b, r) for r, (a, b) in enumerate(zip(k, budget[s], strict=True)))
                share = over[0] / max(1, budget[s][over[1]])
                if best is None or share < best[0]:
                    best = (share, s, over[1], k[over[1]])
        assert best is not None
        _, s, r, need = best
        return FvcError(
            "FVC250",
            f"{case.resources[r]} over budget on slot {case.slot_ids[s]}: {need:,} needed, {budget[s][r]:,} usable",
            where=(
                "constraint: resources",
                f"kernel '{case.node_names[v]}': no version fits a slot that it may stand on",
            ),
            help=("offer a smaller version of it, or split it", "raise the limit, or use a larger board"),
            exit_code=1,
        )
    return None


def _all_slots(case: Case) -> FvcError | None:
    budget = _budget(case)
    for r, name in enumerate(case.resources):
        least = sorted(((min(k[r] for k in case.versions[v]), case.node_names[v]) for v in case.nodes), reverse=True)
        need, have = sum(a for a, _ in least), sum(b[r] for b in budget)
        if need > have:
            who = ", ".join(f"{n} ({a:,})" for a, n in least[:5])
            one = max(b[r] for b in budget)
            more = f"fits from {-(-(need - have) // one)} more slot(s) on" if one else f"no slot has {name}"
            return FvcError(
                "FVC250",
                f"{name} over budget on all {len(budget)} slots together: {need:,} needed, {have:,} usable",
                where=("constraint: resources", who),
                help=("offer versions with less of it", f"add a device: {more}"),
                exit_code=1,
            )
    return None


def _together(case: Case, proved_by: str) -> FvcError:
    """No single family is to blame: say which ones stand in the problem, and how full the slots must be."""
    budget = _budget(case)
    full = []
    for r, name in enumerate(case.resources):
        have = sum(b[r] for b in budget)
        need = sum(min(k[r] for k in case.versions[v]) for v in case.nodes)
        if have:
            full.append((need * 100 // have, name))
    families = ["resources"]
    if isinstance(case, FixedCase):
        families += ["average utilisation"] * bool(case.averages) + ["connections", "wires", "bits a second"]
    else:
        families += ["wires", "bits a frame"]
    if any(len(a) < len(case.slot_ids) for a in case.allowed):
        families.append("anchors")
    levels = ", ".join(f"{name} {share} %" for share, name in sorted(full, reverse=True)[:4])
    return FvcError(
        "FVC251",
        f"no placement of '{case.name}' meets {', '.join(families)} together (proved: {proved_by})",
        where=(f"least demand of all kernels, of what all slots have: {levels}",),
        help=("free anchors, raise limits, or add connections", "offer smaller versions, or add a device"),
        exit_code=1,
    )
