"""--force-split of streaming layers: the cuts that are asked for.

Needs a graph and options; gives the cut of every layer that allows it. Layers whose fold or place together with others
is given stay whole. Raises FVC215 where no layer can be cut into so many.
"""

from __future__ import annotations

from compiler.ir.graph import Graph
from compiler.ops.stream.sliced import MOST_PARTS, Cut, Cuts, as_cuts, legal, most
from compiler.partition.options import PartitionOptions
from device_db.errors import FvcError

_NAMES = {"Pm": "output channels", "Pn": "input channels"}


def forced(graph: Graph, options: PartitionOptions) -> Cuts:
    """The cuts of --force-split, as far as each layer allows its factors."""
    wanted = {f: n for f, n in options.force_split if n > 1}
    if not wanted:
        return ()
    text = ",".join(f"{f}={n}" for f, n in wanted.items())
    ways = Cut(wanted.get("Pm", 1), wanted.get("Pn", 1))
    if ways.parts > MOST_PARTS:
        raise FvcError(
            "FVC215", f"--force-split {text}: {ways.parts} parts a layer, streaming layers have {MOST_PARTS} at most",
            help=("use smaller factors",), exit_code=1,
        )  # fmt: skip
    kept = kept_whole(options)
    limits = {n.name: most(n) for n in graph.nodes if n.name not in kept}
    for factor, count in wanted.items():
        greatest = max((c.rows if factor == "Pm" else c.columns for c in limits.values()), default=1)
        if greatest < count:
            raise FvcError(
                "FVC215", f"--force-split {factor}={count}: no layer can be cut into so many {_NAMES[factor]}",
                where=(f"the largest can be cut into {greatest}" if greatest > 1 else f"no layer allows {factor}",),
                help=(f"use {factor}={greatest} or less",) if greatest > 1 else ("use another factor",), exit_code=1,
            )  # fmt: skip
    cuts = {}
    for node in graph.nodes:
        if node.name in kept:
            continue
        limit = limits[node.name]
        cut = Cut(ways.rows if limit.rows >= ways.rows else 1, ways.columns if limit.columns >= ways.columns else 1)
        if legal(node, cut):
            cuts[node.name] = cut
    return as_cuts(cuts)


def kept_whole(options: PartitionOptions) -> set[str]:
    """Layers that are not cut: their fold is given or measured, or they must stand with others."""
    together = {name for pair in options.forbidden_cuts for name in pair}
    return together | {f[0] for f in options.folds} | {m[0] for m in options.measured}


def notes_of(graph: Graph, cuts: Cuts, options: PartitionOptions) -> list[str]:
    """Sentences: which layers --force-split leaves whole or cuts by one factor only."""
    wanted = {f: n for f, n in options.force_split if n > 1}
    if not wanted:
        return []
    text = ",".join(f"{f}={n}" for f, n in wanted.items())
    full = Cut(wanted.get("Pm", 1), wanted.get("Pn", 1))
    less = [name for name, cut in cuts if cut != full]
    out = [f"--force-split {text}: {len(cuts)} of {len(graph.nodes)} layers are sliced"]
    if less:
        out.append(f"--force-split {text}: cut by one factor only: {', '.join(less[:5])}{', …' if less[5:] else ''}")
    kept = sorted(kept_whole(options) & {n.name for n in graph.nodes})
    if kept:
        out.append(f"--force-split: layers with given folds or forbidden cuts stay whole: {', '.join(kept[:5])}")
    return out
