"""A Vivado utilisation report as measured resources of layers and measured clocks of dies.

Needs the rows of the report (`vivado`), an instance each, and the folds that were synthesised; gives what each reported
layer takes at that fold, and kilohertz of dies. Instances are FINN's nodes (the name, or a path or prefix that
ends in it) or layers; what a layer's other nodes take is estimated. Rows of anything else are passed over. A row that
names a device, a die or * has a clock. Raises FVC002, FVC282 with the line of the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from compiler.ir.graph import Graph, Node
from compiler.isa.stream.resources import unit_resources
from compiler.isa.stream.table import DRAM, MEMORIES, VARIANTS
from compiler.ops.stream.lower import legal_folds, lower
from compiler.ops.stream.parts import Fold
from compiler.partition.finn.names import Peer, numbered, peers
from compiler.partition.finn.read import FoldAsked
from compiler.partition.vivado import NEEDED, Row, bad, read_rows, resources
from device_db.errors import FvcError
from device_db.model import Cluster, Resources

MeasuredLayer = tuple[str, int, int, str, str, int, int, int, int, int]  # a FoldAsked, then lut, ff, bram18, uram, dsp


@dataclass(frozen=True, slots=True)
class Measured:
    """What a report says: layers at their folds, dies ("u280-0/SLR0") in kilohertz."""

    layers: tuple[MeasuredLayer, ...]
    clocks_khz: dict[str, int]


def read_measured(
    path: Path, graph: Graph, cluster: Cluster, folds: Sequence[FoldAsked], known: Mapping[str, Peer]
) -> Measured:
    """A report on this graph and cluster. folds: what was synthesised; known: FINN's nodes by name."""
    rows = read_rows(path)
    clocks = {}
    for row in rows:
        dies = _dies(row.name, cluster)
        if row.cells.get("clock"):
            if not dies:
                names = ", ".join(d.name for d in cluster.devices)
                raise bad(path, row, f"'{row.name}' has a clock and is no device or die", f"there are *, {names}")
            clocks.update(dict.fromkeys(dies, _clock(path, row)))
    found = _layers(path, rows, graph, known)
    if not found and not clocks:
        raise bad(path, rows[0] if rows else None, "no row names a layer, a die or a device of this compile")
    asked = {f[0]: f for f in folds}
    lacking = next((n for n in found if n not in asked), None)
    if lacking is not None:
        raise FvcError(
            "FVC282",
            f"the report measures '{lacking}', and no fold file says how it was folded",
            where=(str(path),),
            help=("give the folding that was synthesised with --fold-from",),
        )
    nodes = {n.name: n for n in graph.nodes}
    layers = [(*asked[n], *_total(graph, nodes[n], asked[n], units, cluster)) for n, units in found.items()]
    return Measured(tuple(sorted(layers)), dict(sorted(clocks.items())))


def with_clocks(cluster: Cluster, clocks_khz: Mapping[str, int]) -> Cluster:
    """The cluster with these dies at these clocks."""
    devices = []
    for dev in cluster.devices:
        dies = tuple(replace(d, clock_khz=clocks_khz.get(f"{dev.name}/{d.name}", d.clock_khz)) for d in dev.board.dies)
        devices.append(replace(dev, board=replace(dev.board, dies=dies)))
    return replace(cluster, devices=tuple(devices))


def _layers(
    path: Path, rows: Sequence[Row], graph: Graph, peers: Mapping[str, Peer]
) -> dict[str, dict[tuple[str, int] | None, Resources]]:
    """Layer -> what was measured of it: (operation, number) of a unit, or None for the whole layer."""
    known: dict[str, tuple[str, tuple[str, int] | None]] = {}
    for name, peer in peers.items():
        unit = (peer.op, peer.unit) if peer.layer and peer.op not in ("", "DUP") else None
        known[name] = (peer.layer if unit else "", unit)
    known |= {n.name: (n.name, None) for n in graph.nodes}
    out: dict[str, dict[tuple[str, int] | None, Resources]] = {}
    at: dict[str, Row] = {}
    inside: Row | None = None  # the node whose parts the rows are
    for row in rows:
        if inside is not None and row.depth > inside.depth:
            continue
        inside = None
        name = row.name if row.name in known else _node_name(row.name)
        key = known.get(name)
        if key is None or not row.cells.keys() & set(NEEDED):
            continue
        if name in at:
            raise bad(path, row, f"'{name}' is there twice, first in line {at[name].line}")
        layer, unit = key
        if layer and (unit is None) in [k is not None for k in out.get(layer, {})]:
            raise bad(path, row, f"layer '{layer}' is there as a whole and in parts")
        at[name], inside = row, row
        measured = resources(path, row)
        if layer:
            out.setdefault(layer, {})[unit] = measured
    return out


def unfolded(graph: Graph, front: int) -> dict[str, Peer]:
    """Nodes by FINN's names where no fold file says which are HLS and which RTL: enough to tell what was measured."""
    found = peers(graph, front)
    names = numbered([p.kind for p in found])
    out: dict[str, Peer] = {}
    for name, peer in zip(names, found, strict=True):
        kind, _, number = name.rpartition("_")
        out.update((f"{kind}{suffix}_{number}", peer) for suffix in ("", "_hls", "_rtl"))
    return out


def _node_name(instance: str) -> str:
    """The node that an instance's path or prefixed name ends in: "top/sdp_MVAU_hls_0" is MVAU_hls_0.

    Vivado's GUI puts N (net) or I (instance) before it and the module behind: "I MVAU_hls_0 (MVAU_hls_0_imp)"."""
    plain = re.sub(r" \([^()]*\)$", "", re.sub(r"^[NI] (?=\S)", "", instance))
    last = plain.rsplit("/", 1)[-1]
    found = re.search(r"(?:^|_)([A-Z][A-Za-z]*(?:_hls|_rtl)?_[0-9]+)$", last)
    return found[1] if found else last


def _clock(path: Path, row: Row) -> int:
    text = row.cells["clock"]
    khz = round(Fraction(text) * 1000) if re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,6})?", text, re.ASCII) else 0
    if not 1_000 <= khz <= 2_000_000:
        raise bad(path, row, f"a clock of {text!r:.40} MHz makes no sense", "1 to 2000 MHz")
    return khz


def _dies(name: str, cluster: Cluster) -> list[str]:
    every = [(dev.name, f"{dev.name}/{d.name}") for dev in cluster.devices for d in dev.board.dies]
    return [die for dev, die in every if name in ("*", dev, die)]


def _total(
    graph: Graph, node: Node, asked: FoldAsked, units: Mapping[tuple[str, int] | None, Resources], cluster: Cluster
) -> tuple[int, int, int, int, int]:
    """What a layer takes: as measured, and estimated for its nodes that were not."""
    whole = units.get(None)
    if whole is None:
        whole = Resources()
        seen: dict[str, int] = {}
        for draft in lower(graph, node, first_fold(graph, node, asked)).units:
            number = seen.get(draft.op, 0)
            seen[draft.op] = number + 1
            estimated = unit_resources(draft.instruction(), cluster.devices[0].board.family)
            whole = whole + units.get((draft.op, number), estimated)
    return whole.lut, whole.ff, whole.bram18, whole.uram, whole.dsp


def first_fold(graph: Graph, node: Node, asked: FoldAsked) -> Fold:
    """The fold that was asked for; of several that differ in memory or variant the first."""
    _, pe, simd, memory, variant = asked
    return next(
        f
        for f in legal_folds(graph, node, True, memory == MEMORIES[DRAM])
        if (f.pe, f.simd) == (pe, simd) and memory in ("", MEMORIES[f.memory]) and variant in ("", VARIANTS[f.variant])
    )
