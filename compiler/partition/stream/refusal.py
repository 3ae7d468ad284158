"""Why there is no streaming plan: what is short, who takes most of it, and what would relieve it."""

from __future__ import annotations

from compiler.partition.stream.over import Over
from compiler.partition.stream.problem import TYPES, Problem, amounts
from device_db.errors import FvcError


def does_not_fit(p: Problem) -> FvcError:
    """The smallest engines of all layers are too much, or no die holds its share: which resource, who, what relieves
    it."""
    need = [sum(min(amounts(o)[r] for o in layer) for layer in p.options) for r in range(len(TYPES))]
    have = [sum(b[r] for b in p.budgets) for r in range(len(TYPES))]
    r = max(range(len(TYPES)), key=lambda k: need[k] / max(1, have[k]))
    heavy = sorted(
        ((min(amounts(o)[r] for o in layer), n.name) for n, layer in zip(p.nodes, p.options, strict=True)), reverse=True
    )
    heavy = list(dict.fromkeys(heavy))[:5]
    layers = "all layers" if p.copies == 1 else f"all layers of {p.copies} copies"
    fewer = []
    if p.copies > 1:
        most = min(p.copies * have[k] // max(1, need[k]) for k in range(len(TYPES)))
        fewer = [f"--replicas {most} or fewer" if 0 < most < p.copies else "fewer --replicas"]
    if need[r] <= have[r]:  # each resource would do if all dies were one
        return FvcError(
            "FVC203",
            f"no placement of {layers} on {len(p.refs)} dies was found",
            where=(
                "constraint: resources of each die, SLL wires, links",
                f"{TYPES[r].upper()}: {need[r]:,} needed at least, {have[r]:,} usable on all dies",
                f"largest: {heavy[0][1]}",
            ),
            help=(*fewer, "add a device", "use --style tiled, whose engines are shared by all layers"),
            exit_code=1,
        )
    devices = len({x.device for x in p.refs})
    more = -(-need[r] * devices // max(1, have[r])) - devices
    help = ["use --style tiled, whose engines are shared by all layers"]
    if more > 0:
        help.insert(0, f"at least {more} more devices are needed")
    help = [*fewer, *help]
    return FvcError(
        "FVC203",
        f"no folding of {layers} fits: {need[r]:,} {TYPES[r].upper()} needed at least, {have[r]:,} usable",
        where=("constraint: resources", ", ".join(f"{name} ({amount:,})" for amount, name in heavy)),
        help=tuple(help),
        exit_code=1,
    )


def still_over(worst: Over, copies: int) -> FvcError:
    """No netlist kept its budgets with all its FIFOs and converters, however much was held back for them."""
    fewer = ("fewer --replicas",) if copies > 1 else ()
    return FvcError(
        "FVC203",
        f"{worst.what} over budget on {worst.device}/{worst.die}: {worst.need:,} needed, {worst.have:,} usable",
        where=("constraint: resources",),
        help=(*fewer, "add a device", "--interval CYCLES gives up speed for area"),
        exit_code=1,
    )


def no_quicker(proved_ps: int, known_ps: int) -> FvcError:
    """It is proved that nothing is quicker than a plan that is there."""
    return FvcError(
        "FVC203",
        f"no plan below {known_ps:,} ps a frame: the bound is {proved_ps:,} ps",
        help=("take the plan that is there",),
        exit_code=1,
    )
