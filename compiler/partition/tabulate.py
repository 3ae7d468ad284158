"""Fills the option table and the placement problem from graph, slots and costs.

Needs the chosen engines; guarantees every whole option and every slice of the unit grid that an engine can hold.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.ir.graph import Conv, Graph, HostSegment, Node, storage4
from compiler.ops.boxes import whole_box
from compiler.ops.registry import bare
from compiler.partition.costs import CostBook
from compiler.partition.options import PartitionOptions
from compiler.partition.options_table import Layer, Option, OptionTable, SplitRange
from compiler.partition.pieces import Slot, cut
from compiler.partition.problem import HOST_SLOT, Flow, Problem, SharedLink
from compiler.partition.protocols import Ops, Routes
from compiler.plan.model import Box
from device_db.errors import FvcError
from device_db.model import Cluster
from device_db.topology import link_specs

MOST_UNITS = 8
MESSAGE_LOSS = 0.8
WORTH_SLICING = 40  # a layer is sliced if it is more than a 40th of an even share of the whole work


def node_box(graph: Graph, node: Node) -> Box:
    """The whole output box of a node."""
    return whole_box(storage4(graph.tensors[node.y].shape))


def reduce_extent(node: Node) -> int:
    """Input channels that a Pn split may divide: those of one group of a convolution; 0 for other operators."""
    return int(node.weight.shape[1]) if isinstance(node, Conv) else 0


def unit_quantum(extent: int, quantum: int) -> int:
    """Channels a unit: a multiple of the operator's own quantum that gives at most MOST_UNITS units, in steps of 8."""
    least = -(-extent // MOST_UNITS)
    step = quantum
    while step % 8 and step < least:
        step += quantum
    return -(-least // step) * step


def split_ranges(graph: Graph, node: Node, ops: Ops) -> tuple[SplitRange, ...]:
    """Unit grids of the splits that the operator allows."""
    out: list[SplitRange] = []
    for factor, axis, extent, quantum in ops.splits(graph, node):
        size = unit_quantum(extent, quantum)
        if -(-extent // size) >= 2:
            out.append(SplitRange(factor, axis, extent, size))
    return tuple(out)


def layers_of(graph: Graph, ops: Ops) -> list[Layer]:
    """The engine layers in topological order."""
    index = {node.y: k for k, node in enumerate(graph.nodes)}
    out: list[Layer] = []
    for k, node in enumerate(graph.nodes):
        producers = tuple(sorted({index[t] for t in node.inputs if t in index}))
        t = graph.tensors[node.y]
        out.append(
            Layer(k, node.name, node.op, node_box(graph, node), split_ranges(graph, node, ops), producers, t.bytes * 8)
        )
    return out


def flows_of(graph: Graph) -> list[Flow]:
    """Every root tensor that may travel."""
    index = {node.y: k for k, node in enumerate(graph.nodes)}
    readers: dict[str, list[int]] = {}
    for k, node in enumerate(graph.nodes):
        for t in dict.fromkeys(node.inputs):
            readers.setdefault(t, []).append(k)
    to_host = {graph.root(o) for o in graph.outputs}
    for seg in graph.steps:
        if isinstance(seg, HostSegment):
            to_host |= {graph.root(t) for t in seg.inputs}
    out: list[Flow] = []
    for name in dict.fromkeys([*index, *readers]):
        if name in graph.constants or name not in graph.tensors:
            continue
        producer = index.get(name, HOST_SLOT)
        if producer == HOST_SLOT and name not in readers:
            continue
        sends = producer != HOST_SLOT and name in to_host
        out.append(Flow(name, producer, tuple(readers.get(name, [])), sends, graph.tensors[name].bytes * 8))
    return out


class Tabulator:
    """Options of each layer on each kind; equal layers are costed once."""

    def __init__(
        self, graph: Graph, slots: Sequence[Slot], book: CostBook, ops: Ops, ref_khz: int, options: PartitionOptions
    ) -> None:
        self.graph, self.slots, self.book, self.ops = graph, list(slots), book, ops
        self.ref_khz, self.options = ref_khz, options
        self.table = OptionTable(layers_of(graph, ops))
        self.nodes = graph.nodes
        self.kind_of: list[int] = []
        self.kinds: list[Slot] = []
        seen: dict[tuple[object, ...], int] = {}
        for s in slots:
            key = (bare(s.spec), s.bank_sharers)
            if key not in seen:
                seen[key] = len(self.kinds)
                self.kinds.append(s)
            self.kind_of.append(seen[key])

    def option(
        self,
        layer: int,
        kind: int,
        split: str,
        units: tuple[int, int],
        role: str,
        box: Box,
        reduce_range: tuple[int, int],
        memory: str = "stream",
    ) -> Option | None:
        slot = self.kinds[kind]
        node = self.nodes[layer]
        n = self.book.cost(node, role, box, reduce_range, slot.spec, memory)
        if n is None:
            return None
        ticks = max(1, n.busy * self.ref_khz // slot.spec.clock_khz)
        return Option(
            layer, kind, split, units, role, memory, n.cycles, ticks, n.resident_bytes,
            n.read_bytes, n.write_bytes, n.constant_bytes, tile=n.tile,
        )  # fmt: skip

    def whole(self) -> None:
        """The unsliced option of every layer on every kind."""
        for layer in self.table.layers:
            extent = reduce_extent(self.nodes[layer.index])
            for kind in range(len(self.kinds)):
                o = self.option(layer.index, kind, "", (1, 1), "full", layer.box, (0, extent))
                if o is None:
                    continue
                self.table.add(o)
                if self.options.memory != "external" and self._may_reside(layer.index, kind):
                    kept = self.option(layer.index, kind, "", (1, 1), "full", layer.box, (0, extent), "resident")
                    if kept is not None and kept.ticks < o.ticks:
                        self.table.add(kept)

    def _may_reside(self, layer: int, kind: int) -> bool:
        node = self.nodes[layer]
        budget = self.ops.resident_budget_bytes(self.kinds[kind].spec)
        return isinstance(node, Conv) and int(node.weight.size) <= budget

    def offered(self, layer: Layer) -> tuple[SplitRange, ...]:
        """The splits worth tabulating: what is forced; else Pm of layers that matter, and Pn only where there is no Pm
        (partial sums are int32, travel and are added again)."""
        forced = {factor for factor, count in self.options.force_split if count > 1}
        if forced:
            return tuple(s for s in layer.splits if s.factor in forced)
        least = [
            min(o.ticks for k in range(len(self.kinds)) for o in self.table.of(x.index, k)) for x in self.table.layers
        ]
        if least[layer.index] * WORTH_SLICING * len(self.slots) < sum(least):
            return ()
        by_output = tuple(s for s in layer.splits if s.factor == "Pm")
        return by_output or layer.splits

    def slices(self) -> None:
        """Every offered slice of the unit grid, and the reduce pieces that Pn slices need."""
        if len(self.slots) == 1:
            return
        chosen = [self.offered(layer) for layer in self.table.layers]
        for layer, ranges in zip(self.table.layers, chosen, strict=True):
            layer.splits = ranges
            extent = reduce_extent(self.nodes[layer.index])
            for split in layer.splits:
                for kind in range(len(self.kinds)):
                    for k in range(1, split.units):
                        lo, hi = split.bounds(0, k)
                        if split.factor == "Pm":
                            o = self.option(
                                layer.index,
                                kind,
                                "Pm",
                                (k, split.units),
                                "full",
                                cut(layer.box, split.axis, lo, hi),
                                (0, extent),
                            )
                        else:
                            o = self.option(layer.index, kind, "Pn", (k, split.units), "partial", layer.box, (lo, hi))
                        if o is not None:
                            self.table.add(o)
                    if split.factor == "Pn":
                        o = self.option(layer.index, kind, "reduce", (0, split.units), "reduce", layer.box, (0, extent))
                        if o is not None:
                            self.table.add(o)


def placement_problem(
    tab: Tabulator, cluster: Cluster, routes: Routes, options: PartitionOptions, order: Sequence[int]
) -> Problem:
    """The numbers that the solvers work on."""
    slots = tab.slots
    specs = link_specs(cluster)
    ids = sorted(specs)
    index = {k: i for i, k in enumerate(ids)}
    ends = [HOST_SLOT, *range(len(slots))]
    route = {
        (i, j): tuple(
            index[k] for k in routes.route(slots[i].ref if i >= 0 else None, slots[j].ref if j >= 0 else None)
        )
        for i in ends
        for j in ends
        if i != j
    }
    banks: dict[tuple[int, str], int] = {}
    bank_of = [banks.setdefault((s.ref.device, s.spec.bank), len(banks)) for s in slots]
    rates = [0] * len(banks)
    for s, b in zip(slots, bank_of, strict=True):
        rates[b] = s.spec.bank_bytes_per_second
    allowed, stuck, forced = limits_of(tab, cluster, options)
    return Problem(
        table=tab.table, kind_of=tab.kind_of, order=list(order),
        resident_bytes=[tab.ops.resident_budget_bytes(s.spec) for s in slots], flows=flows_of(tab.graph),
        message_weight=[message_weight(s) for s in slots],
        links=[SharedLink(k, specs[k][0]) for k in ids], route=route, bank_of=bank_of, bank_rate=rates,
        ref_khz=tab.ref_khz, allowed=allowed, stuck=stuck, forced=forced,
    )  # fmt: skip


def message_weight(slot: Slot) -> float:
    """Share of a message's time on the bank that it costs the core's own loads and stores.

    Ports that can take the bank whole lose what messages take for as long as they are busy, most of the time; ports
    whose loads and stores together leave the bank room lose nothing.
    """
    spec = slot.spec
    both = (spec.ld_bytes_per_cycle + spec.st_bytes_per_cycle) * spec.clock_khz * 1000
    return MESSAGE_LOSS if both * 4 > spec.bank_bytes_per_second // slot.bank_sharers * 3 else 0.0


def too_many_slices(tab: Tabulator, factor: str, count: int) -> FvcError:
    """FVC215: `--force-split` asks for what no layer allows."""
    what = {"Pm": "output channels", "Pn": "input channels"}[factor]
    most = max((s.units for layer in tab.table.layers for s in layer.splits if s.factor == factor), default=0)
    if count > len(tab.slots):
        return FvcError(
            "FVC215", f"--force-split {factor}={count} needs {count} engines, {len(tab.slots)} are there",
            where=("every slice of a layer stands on an engine of its own",),
            help=("add devices, or more --cores a device", "use a smaller factor"), exit_code=1,
        )  # fmt: skip
    return FvcError(
        "FVC215", f"--force-split {factor}={count}: no layer that may move can be cut into so many {what}",
        where=(f"the largest can be cut into {most}" if most > 1 else f"no layer allows {factor} at all",),
        help=((f"use {factor}={most} or less",) if most > 1 else ("use another factor",)), exit_code=1,
    )  # fmt: skip


def limits_of(
    tab: Tabulator, cluster: Cluster, options: PartitionOptions
) -> tuple[dict[int, tuple[int, ...]], list[tuple[int, ...]], dict[int, tuple[str, int]]]:
    """(slots of anchored layers, groups that stay together, forced slices). FVC206: an anchor names nothing.
    FVC215: a forced split fits no layer."""
    names = {layer.name: layer.index for layer in tab.table.layers}
    allowed: dict[int, tuple[int, ...]] = {}
    for name, place in options.anchors:
        if name not in names:
            raise FvcError(
                "FVC206", f"anchor: no engine layer is called '{name}'", help=("fvc explain DIR lists the layers",)
            )
        here = tuple(
            s.index for s in tab.slots if place in (s.id, cluster.devices[s.ref.device].name, cluster.die_name(s.ref))
        )
        if not here:
            known = ", ".join(dict.fromkeys(cluster.die_name(s.ref) for s in tab.slots))
            raise FvcError("FVC206", f"anchor of '{name}': no engine stands on '{place}'", help=(f"one of {known}",))
        allowed[names[name]] = here
    groups: list[set[int]] = []
    for a, b in options.forbidden_cuts:
        for name in (a, b):
            if name not in names:
                raise FvcError("FVC206", f"forbidden cut: no engine layer is called '{name}'")
        both = {names[a], names[b]}
        touching = [g for g in groups if g & both]
        groups = [g for g in groups if not g & both] + [both.union(*touching)]
    forced: dict[int, tuple[str, int]] = {}
    for factor, count in options.force_split:
        if count == 1:
            continue
        for layer in tab.table.layers:
            if layer.index in forced or layer.index in allowed or any(layer.index in g for g in groups):
                continue
            units = max((s.units for s in layer.splits if s.factor == factor), default=0)
            if units >= count and count <= len(tab.slots):
                forced[layer.index] = (factor, count)
        if not any(f == factor for f, _ in forced.values()):
            raise too_many_slices(tab, factor, count)
    return allowed, [tuple(sorted(g)) for g in groups], forced
