"""Fills the option table and the placement problem from graph, slots and costs.

Needs the chosen engines; guarantees every whole option and every slice of the unit grid that an engine can hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, prod

from compiler.ir.graph import Conv, Graph, HostSegment, Node, storage4
from compiler.ops.boxes import box_elements, whole_box
from compiler.ops.registry import bare
from compiler.partition.boxes import Boxes
from compiler.partition.costs import CostBook
from compiler.partition.grids import Split, allowed, make_grid
from compiler.partition.options import PartitionOptions
from compiler.partition.options_table import Layer, Option, OptionTable, SplitRange
from compiler.partition.pieces import FACTORS, Slot, cut
from compiler.partition.problem import HOST_SLOT, Flow, Problem, SharedLink
from compiler.partition.protocols import Ops, Routes
from compiler.partition.sharing import Sharing
from compiler.plan.model import Box
from device_db.errors import FvcError
from device_db.model import Cluster
from device_db.topology import link_specs

MOST_UNITS = 8
MOST_ROW_UNITS = 4
MESSAGE_LOSS = 0.8
LATENCY_COUNTS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
FACTOR_NAMES = {
    "Pb": "samples", "Pr": "rows", "Pc": "columns", "Pm": "output channels", "Pn": "input channels"
}  # fmt: skip
WORTH_SLICING = 40  # a layer is sliced if it is more than a 40th of an even share of the whole work


def node_box(graph: Graph, node: Node) -> Box:
    """The whole output box of a node."""
    return whole_box(storage4(graph.tensors[node.y].shape))


def reduce_extent(node: Node) -> int:
    """Input channels that a Pn split may divide: those of one group of a convolution; 0 for other operators."""
    return int(node.weight.shape[1]) if isinstance(node, Conv) else 0


def unit_quantum(factor: str, extent: int, quantum: int) -> int:
    """Channels (rows, …) a unit: a multiple of the operator's own quantum that gives at most MOST_UNITS units, of
    channels in steps of 8."""
    if factor not in ("Pm", "Pn"):
        return -(-extent // MOST_ROW_UNITS)
    least = -(-extent // MOST_UNITS)
    step = quantum
    while step % 8 and step < least:
        step += quantum
    return -(-least // step) * step


def split_ranges(splits: Sequence[Split]) -> tuple[SplitRange, ...]:
    """Unit grids of the splits that the operator allows."""
    out: list[SplitRange] = []
    for factor, axis, extent, quantum in splits:
        size = unit_quantum(factor, extent, quantum)
        if -(-extent // size) >= 2:
            out.append(SplitRange(factor, axis, extent, size))
    return tuple(out)


def layers_of(graph: Graph, ops: Ops) -> list[Layer]:
    """The engine layers in topological order."""
    index = {node.y: k for k, node in enumerate(graph.nodes)}
    out: list[Layer] = []
    for k, node in enumerate(graph.nodes):
        producers = tuple(sorted({index[t] for t in node.inputs if t in index}))
        bits = graph.tensors[node.y].bytes * 8
        splits = tuple(ops.splits(graph, node))
        out.append(
            Layer(
                k, node.name, node.op, node_box(graph, node), split_ranges(splits), producers, bits,
                reduce_extent(node), splits,
            )
        )  # fmt: skip
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
        self.boxes = Boxes(graph, ops, self.table)
        self.notes: list[str] = []
        self.nodes = graph.nodes
        self.sharing: Sharing | None = None  # grids with shared weights or inputs too
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
        partials: int = 2,
    ) -> Option | None:
        slot = self.kinds[kind]
        node = self.nodes[layer]
        n = self.book.cost(node, role, box, reduce_range, slot.spec, memory, partials)
        if n is None:
            return None
        ticks, least = (max(1, c * self.ref_khz // slot.spec.clock_khz) for c in (n.busy, n.least))
        first, loads, behind = (c * self.ref_khz // slot.spec.clock_khz for c in n.loads)
        return Option(
            layer, kind, split, units, role, memory, n.cycles, ticks, least, n.resident_bytes,
            n.read_bytes, n.write_bytes, n.constant_bytes, tile=n.tile, load_ticks=(first, loads, behind),
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

    def worth(self) -> list[bool]:
        """The layers that are worth slicing: no whole option, or more than a small part of an even share of work."""
        least = [
            min((o.ticks for k in range(len(self.kinds)) for o in self.table.of(x.index, k)), default=0)
            for x in self.table.layers
        ]
        return [not t or t * WORTH_SLICING * len(self.slots) >= sum(least) for t in least]

    def slices(self) -> None:
        """The slices worth tabulating: the forced grids alone if any are asked for; else for the interval one factor or
        two a layer in any number of units, if it is worth it, for the latency grids over every number of engines."""
        ranges = [layer.splits for layer in self.table.layers]
        for layer in self.table.layers:
            layer.splits = ()
        if self.forced():
            self._forced()
            return
        if len(self.slots) == 1:
            return
        if self.options.objective == "latency":  # however short a layer is, a frame waits for it
            for layer in self.table.layers:
                for wanted in grids_over(layer.cuts, len(self.slots)):
                    self.add_grid(layer, wanted)
            return
        for layer, own, worth in zip(self.table.layers, ranges, self.worth(), strict=True):
            if worth:
                layer.splits = self.ranges(layer, own)
                for split in layer.splits:
                    self._units(layer, split)

    def more(self) -> bool:
        """Tabulates the other grids for the latency; whether there are any."""
        if self.forced() or len(self.slots) == 1:
            return False
        before = sum(len(layer.grids) for layer in self.table.layers)
        for layer in self.table.layers:
            for wanted in more_grids(layer.cuts, len(self.slots)):
                self.add_grid(layer, wanted)
        return sum(len(layer.grids) for layer in self.table.layers) > before

    def shares(self) -> bool:
        """Offers grids whose cells share weights or inputs, of those so far; whether there are any."""
        sharing, self.sharing = self.sharing, None
        if sharing is None or not sharing.offers:
            return False
        sharing.apply(self.table)
        return True

    def forced(self) -> dict[str, int]:
        """Factors that every layer is to be cut by."""
        return {factor: count for factor, count in self.options.force_split if count > 1}

    def _forced(self) -> None:
        """The forced grid of every layer that allows it. FVC215: more slices than engines, or no layer allows any."""
        wanted = self.forced()
        text = ",".join(f"{f}={n}" for f, n in wanted.items())
        need = prod(wanted.values())
        if need > len(self.slots):
            raise FvcError(
                "FVC215", f"--force-split {text} needs {need} engines, {len(self.slots)} are there",
                where=("every slice of a layer stands on an engine of its own",),
                help=("add devices, or more --cores a device", "use smaller factors", "--replicas 1"), exit_code=1,
            )  # fmt: skip
        most = dict.fromkeys(wanted, 0)
        less: dict[str, list[str]] = {f: [] for f in wanted}
        cut_layers = 0
        for layer in self.table.layers:
            own: dict[str, int] = {}
            for f, n in wanted.items():
                units = allowed(layer.cuts, f)
                most[f] = max(most[f], units)
                if units >= n:
                    own[f] = n
                elif units > 1:
                    less[f].append(f"{layer.name} ({units})")
            if own and self.add_grid(layer, own):
                cut_layers += 1
        for f, n in wanted.items():
            if most[f] < n:
                samples = (f"--batch {n} makes {n} samples one frame",) if f == "Pb" else ()
                fewer = f"use {f}={most[f]} or less" if most[f] > 1 else "use another factor"
                raise FvcError(
                    "FVC215", f"--force-split {f}={n}: no layer can be cut into so many {FACTOR_NAMES[f]}",
                    where=(f"the largest can be cut into {most[f]}" if most[f] > 1 else f"no layer allows {f} at all",),
                    help=(*samples, fewer), exit_code=1,
                )  # fmt: skip
            if less[f]:
                names = ", ".join(less[f][:5]) + (", …" if len(less[f]) > 5 else "")
                few = f"layers with fewer {FACTOR_NAMES[f]} than {n} are not cut by it"
                self.notes.append(f"--force-split {f}={n}: {few}: {names}")
        self.notes.append(f"--force-split {text}: {cut_layers} of {len(self.table.layers)} layers are sliced")

    def add_grid(self, layer: Layer, wanted: Mapping[str, int]) -> bool:
        """Tabulates an even cut; False if the layer does not allow it or a cell fits no engine."""
        grid = make_grid(layer.box, layer.cuts, wanted, layer.reduce_extent)
        if grid is None:
            return False
        if grid.name in layer.grids:
            return True
        layer.grids[grid.name] = grid
        for kind in range(len(self.kinds)):
            known: dict[object, Option | None] = {}
            for i, c in enumerate(grid.cells):
                form = (c.role, c.reduce_to - c.reduce_from, self._form(layer, grid.name, i, c.role))
                if form not in known:
                    share = (0 if c.role == "reduce" else 1, grid.places)
                    known[form] = self.option(
                        layer.index, kind, grid.name, share, c.role, c.box, (c.reduce_from, c.reduce_to),
                        partials=max(2, grid.partials),
                    )  # fmt: skip
                    if (o := known[form]) is not None:
                        self.table.add(o)
                if (o := known[form]) is not None:
                    self.table.cells[(layer.index, kind, grid.name, i)] = o
        whole = all(
            any((layer.index, k, grid.name, i) in self.table.cells for k in range(len(self.kinds)))
            for i in range(len(grid.cells))
        )
        if whole and self.sharing is not None:
            self.sharing.tabulate(self.option, self.table, layer, grid)
        return whole

    def _form(self, layer: Layer, grid: str, cell: int, role: str) -> tuple[object, ...]:
        """Cells of one form cost the same: sizes of what they make and read."""
        key = (grid, cell, 1, role)
        reads = self.boxes.reads(layer.index, key)
        boxes = (self.boxes.made(layer.index, key), *(reads[t] for t in sorted(reads)))
        return tuple(hi - lo for b in boxes for lo, hi in zip(b[::2], b[1::2], strict=True))

    def ranges(self, layer: Layer, ranges: tuple[SplitRange, ...]) -> tuple[SplitRange, ...]:
        """The factors by which a layer may be cut for the interval: output channels, and after them what takes less of
        engines and links together; Pn only where there is no other (partial sums are int32, travel and are added)."""
        channels = [r for r in ranges if r.factor == "Pm"] or [r for r in ranges if r.factor == "Pn"]
        full = [r for r in ranges if r.factor != "Pn"]
        if any(r.factor == "Pr" for r in full):
            full = [r for r in full if r.factor != "Pc"]
        if not full:
            return tuple(channels)

        def price(r: SplitRange) -> tuple[float, int]:
            half = r.units // 2
            ticks = bits = 0
            for first, units in ((0, half), (half, r.units - half)):
                lo, hi = r.bounds(first, units)
                box = cut(layer.box, r.axis, lo, hi)
                o = self.option(layer.index, 0, r.factor, (units, r.units), "full", box, (0, layer.reduce_extent))
                if o is None:
                    return inf, 0
                ticks += o.ticks
                node = self.nodes[layer.index]
                reads = self.ops.input_boxes(self.graph, node, "full", box, (0, layer.reduce_extent))
                bits += 8 * sum(box_elements(b) for t, b in reads.items() if t in self.graph.tensors)
            spec = self.kinds[0].spec
            rate = spec.bank_bytes_per_second * 8 / (self.ref_khz * 1000)
            return ticks + bits / rate, full.index(r)

        return tuple(dict.fromkeys((*channels, min(full, key=price))))

    def _units(self, layer: Layer, split: SplitRange) -> None:
        """Every number of units of a split, and the reduce pieces that Pn slices need."""
        extent = layer.reduce_extent
        for kind in range(len(self.kinds)):
            for k in range(1, split.units):
                lo, hi = split.bounds(0, k)
                share = (k, split.units)
                if split.factor == "Pn":
                    o = self.option(layer.index, kind, "Pn", share, "partial", layer.box, (lo, hi))
                else:
                    box = cut(layer.box, split.axis, lo, hi)
                    o = self.option(layer.index, kind, split.factor, share, "full", box, (0, extent))
                if o is not None:
                    self.table.add(o)
            if split.factor == "Pn":
                o = self.option(layer.index, kind, "reduce", (0, split.units), "reduce", layer.box, (0, extent))
                if o is not None:
                    self.table.add(o)


def grids_over(splits: Sequence[Split], engines: int) -> list[dict[str, int]]:
    """The even cuts tried first for the latency: batch, rows and output channels alone over k engines, rows with
    channels; columns where there are no rows."""
    can = {f: allowed(splits, f) for f in FACTORS}
    alone = ("Pb", "Pr" if can["Pr"] > 1 else "Pc", "Pm")
    counts = numbers_of(engines)
    out = [{f: k} for k in counts for f in alone]
    out += [{"Pr": a, "Pm": k // a} for k in counts for a in range(2, k // 2 + 1) if k % a == 0]
    return [wanted for wanted in out if all(can[f] >= n for f, n in wanted.items())]


def more_grids(splits: Sequence[Split], engines: int) -> list[dict[str, int]]:
    """The others: columns and input channels alone over two engines and over all, two factors or three over all."""
    can = {f: allowed(splits, f) for f in FACTORS}
    out = [{f: k} for k in dict.fromkeys((2, engines)) for f in ("Pc", "Pn")]
    pairs = [("Pr", "Pc"), ("Pc", "Pm"), ("Pr", "Pn"), ("Pm", "Pn")]
    out += [{f: a, g: engines // a} for f, g in pairs for a in range(2, engines // 2 + 1) if engines % a == 0]
    if engines > 4 and engines % 4 == 0:
        out.append({"Pr": 2, "Pc": 2, "Pm": engines // 4})
    return [wanted for wanted in out if all(can[f] >= n for f, n in wanted.items())]


def numbers_of(engines: int) -> list[int]:
    """How many engines may share a layer."""
    counts = [k for k in LATENCY_COUNTS if k <= engines]
    return counts if engines in counts else [*counts, engines]


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
    placed, stuck, forced = limits_of(tab, cluster, options)
    return Problem(
        table=tab.table, kind_of=tab.kind_of, order=list(order),
        resident_bytes=[tab.ops.resident_budget_bytes(s.spec) for s in slots], flows=flows_of(tab.graph),
        message_weight=[message_weight(s) for s in slots],
        links=[SharedLink(k, specs[k][0]) for k in ids], route=route, bank_of=bank_of, bank_rate=rates,
        ref_khz=tab.ref_khz, allowed=placed, stuck=stuck, forced=forced, boxes=tab.boxes,
        splits=[x.splits for x in tab.table.layers],
    )  # fmt: skip


def message_weight(slot: Slot) -> float:
    """Share of a message's time on the bank that it costs the core's own loads and stores.

    Ports that can take the bank whole lose what messages take for as long as they are busy, most of the time; ports
    whose loads and stores together leave the bank room lose nothing.
    """
    spec = slot.spec
    both = (spec.ld_bytes_per_cycle + spec.st_bytes_per_cycle) * spec.clock_khz * 1000
    return MESSAGE_LOSS if both * 4 > spec.bank_bytes_per_second // slot.bank_sharers * 3 else 0.0


def limits_of(
    tab: Tabulator, cluster: Cluster, options: PartitionOptions
) -> tuple[dict[int, tuple[int, ...]], list[tuple[int, ...]], dict[int, str]]:
    """(slots of anchored layers, groups that stay together, forced slices). FVC206: an anchor names nothing."""
    names = {layer.name: layer.index for layer in tab.table.layers}
    placed: dict[int, tuple[int, ...]] = {}
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
        placed[names[name]] = here
    groups: list[set[int]] = []
    for a, b in options.forbidden_cuts:
        for name in (a, b):
            if name not in names:
                raise FvcError("FVC206", f"forbidden cut: no engine layer is called '{name}'")
        both = {names[a], names[b]}
        touching = [g for g in groups if g & both]
        groups = [g for g in groups if not g & both] + [both.union(*touching)]
    forced: dict[int, str] = {}
    kept: list[str] = []
    if tab.forced():
        for layer in tab.table.layers:
            for name in layer.grids:
                if layer.index in placed or any(layer.index in g for g in groups):
                    kept.append(layer.name)
                elif all(
                    any(tab.table.cell(layer.index, k, name, i) for k in range(len(tab.kinds)))
                    for i in range(len(layer.grids[name].cells))
                ):
                    forced[layer.index] = name
    if kept:
        tab.notes.append(f"--force-split: anchored layers and those kept together stay whole: {', '.join(kept[:5])}")
    return placed, [tuple(sorted(g)) for g in groups], forced
