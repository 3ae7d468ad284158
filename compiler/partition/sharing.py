"""What shared weights or inputs cost a slice before its engine is known: the worst over all runs of engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from compiler.ir.graph import Graph, Node
from compiler.isa.program import EngineSpec
from compiler.ops import registry
from compiler.ops.registry import bare
from compiler.partition.costs import busy_cycles
from compiler.partition.defaults import ClusterRoutes
from compiler.partition.grids import Grid
from compiler.partition.options_table import Layer, Option, OptionTable
from compiler.partition.pieces import Slot
from compiler.partition.xfer import Hop, block_ps, groups, hops_of, shared_name, sharers_of, sharing, sizes_of_groups
from compiler.plan.model import Box
from cost_models.primitives import STREAM_BYTES_PER_CYCLE, ps_cycles
from device_db.model import Cluster
from device_db.topology import link_specs


class Price(Protocol):
    """Tabulator.option: the option of a task of a layer on a kind of engine."""

    def __call__(
        self, layer: int, kind: int, split: str, units: tuple[int, int], role: str, box: Box,
        reduce_range: tuple[int, int], memory: str = ..., partials: int = ...,
    ) -> Option | None: ...  # fmt: skip


@dataclass(frozen=True, slots=True)
class Offer:
    """A grid whose cells share weights or inputs: its cells' options by kind and cell, the ticks of the slowest."""

    layer: Layer
    grid: Grid
    plain: str  # the name of the grid without
    options: Mapping[tuple[int, int], Option]
    ticks: int


class Sharing:
    """What shared weights or inputs would give, over the engines of one replica in machine order. An offer is made
    where the slowest cell is quicker for it (always: for every grid that allows it), with what of the two, and the
    number of sharers, that is best: a layer shares the one or the other."""

    def __init__(self, graph: Graph, slots: Sequence[Slot], cluster: Cluster, ref_khz: int, *, always: bool) -> None:
        self.graph, self.slots, self.ref_khz, self.always = graph, slots, ref_khz, always
        self.links = link_specs(cluster)
        self.routes = ClusterRoutes(cluster)
        self.kinds: list[Slot] = []
        for s in slots:
            if all((bare(s.spec), s.bank_sharers) != (bare(k.spec), k.bank_sharers) for k in self.kinds):
                self.kinds.append(s)
        self.offers: list[Offer] = []
        self._hops: dict[tuple[int, ...], list[Hop]] = {}
        self._times: dict[tuple[int, int, tuple[int, ...], int], int] = {}

    def tabulate(self, price: Price, table: OptionTable, layer: Layer, grid: Grid) -> None:
        """Makes the offer for a grid of the table, if there is one."""
        node = self.graph.nodes[layer.index]
        own = {(k, i): o for k in range(len(self.kinds)) for i, o in _cells(table, layer.index, k, grid)}
        slowest = max((o.ticks for o in own.values()), default=0)
        best: Offer | None = None
        tried = [(inputs, n) for inputs in (False, True) for n in sizes_of_groups(node, grid, inputs=inputs)]
        for inputs, sharers in tried:
            styles = sharing(node, grid, sharers, inputs=inputs)
            if styles is None or len(own) < len(self.kinds) * len(grid.cells):
                continue
            limit = None if self.always else slowest
            name = shared_name(grid, sharers, inputs=inputs)
            made = self._options(price, node, layer, grid, name, styles, own, limit)
            if made is None:
                continue
            ticks = max(o.ticks for o in made.values())
            if (self.always or ticks < slowest) and (best is None or ticks < best.ticks):
                best = Offer(layer, replace(grid, name=name), grid.name, made, ticks)
        if best is not None:
            self.offers.append(best)

    def _options(
        self,
        price: Price,
        node: Node,
        layer: Layer,
        grid: Grid,
        name: str,
        styles: Sequence[str],
        plain: Mapping[tuple[int, int], Option],
        limit: int | None,
    ) -> dict[tuple[int, int], Option] | None:
        """Options of all cells, or None: a cell does not fit, is not quicker than `limit`, or takes other blocks."""
        out: dict[tuple[int, int], Option] = {}
        for kind, slot in enumerate(self.kinds):
            for i, (c, style) in enumerate(zip(grid.cells, styles, strict=True)):
                if style == "stream":
                    out[(kind, i)] = replace(plain[(kind, i)], split=name)
                    continue
                reach = (c.reduce_from, c.reduce_to)
                o = price(layer.index, kind, name, plain[(kind, i)].share, c.role, c.box, reach, style)
                if o is None or (limit is not None and o.ticks >= limit):
                    return None
                busy = self.busy_cycles(node, grid, styles, i, slot.spec, dict(o.tile))
                o = replace(o, ticks=max(o.ticks, busy * self.ref_khz // slot.spec.clock_khz))
                if limit is not None and o.ticks >= limit:
                    return None
                out[(kind, i)] = o
        return out if self.equal(node, grid, styles, out) else None

    def apply(self, table: OptionTable) -> None:
        """Puts the offers into the table; in place of what they better where all that can be is to be shared."""
        for x in self.offers:
            if self.always:
                del x.layer.grids[x.plain]
            x.layer.grids[x.grid.name] = x.grid
            for (kind, i), o in x.options.items():
                table.add(o)
                table.cells[(x.layer.index, kind, x.grid.name, i)] = o

    def _hop(self, places: tuple[int, ...]) -> list[Hop]:
        if places not in self._hops:
            by_id = {self.slots[p].id: self.slots[p] for p in places}
            engines = [self.slots[p].id for p in places]
            self._hops[places] = hops_of(engines, lambda a, b: self.routes.route(by_id[a].ref, by_id[b].ref))
        return self._hops[places]

    def block_cycles(self, size_bytes: int, grain_bytes: int, places: tuple[int, ...], run: int, clock_khz: int) -> int:
        """Cycles in which a block's shares pass between engines at these places of a run of `run` engines, at worst."""
        key = (size_bytes, grain_bytes, places, run)
        if key not in self._times:
            stream = STREAM_BYTES_PER_CYCLE * clock_khz * 8000
            starts = range(0, len(self.slots) - run + 1, run)
            self._times[key] = max(
                block_ps(self._hop(tuple(at + p for p in places)), size_bytes, grain_bytes, self.links, stream)
                for at in starts
            )
        return ps_cycles(self._times[key], clock_khz)

    def busy_cycles(
        self, node: Node, grid: Grid, styles: Sequence[str], cell: int, spec: EngineSpec, tile: dict[str, int]
    ) -> int:
        """Cycles of a cell as `TaskNumbers.busy` has them, its loads of weights waiting for what comes over links. Of
        inputs the first block waits; what passes of the others does so beside the next loads, if it takes no longer."""
        c = grid.cells[cell]
        reach = (c.reduce_from, c.reduce_to)
        stored = registry.likely_stored(self.graph, node, c.role, c.box, reach)
        t = registry.task_timeline(
            self.graph, node, c.role, c.box, reach, spec, tile, styles[cell], max(2, grid.partials), stored
        )
        own = next(g for g in groups(node, grid.cells, styles) if cell in g)
        places = tuple(grid.cells[i].place for i in own)
        waits = [0] * len(t.st)
        inputs = sharers_of(styles[cell])[2]
        listed = registry.block_steps(self.graph, node, c.role, c.box, reach, tile, inputs=inputs)
        for k, (step, grain, size) in enumerate(listed):
            passing = self.block_cycles(size, grain, places, grid.places, spec.clock_khz)
            waits[step] = max(0, passing - t.ld_main[step]) if inputs and k else passing
        if inputs:
            return busy_cycles(replace(t, ld_main=_longer(t.ld_main, waits)), spec)
        return busy_cycles(replace(t, ld_ahead=_longer(t.ld_ahead, waits)), spec)

    def equal(self, node: Node, grid: Grid, styles: Sequence[str], found: Mapping[tuple[int, int], Option]) -> bool:
        """Whether the tasks of every group take equal blocks on each kind of engine."""
        for kind in {k for k, _ in found}:
            for own in groups(node, grid.cells, styles):
                blocks = set()
                for i in own:
                    c, tile = grid.cells[i], dict(found[(kind, i)].tile)
                    reach = (c.reduce_from, c.reduce_to)
                    inputs = sharers_of(styles[i])[2]
                    blocks.add(registry.shared_blocks(self.graph, node, c.role, c.box, reach, tile, inputs=inputs))
                if len(blocks) > 1:
                    return False
        return True


def _cells(table: OptionTable, layer: int, kind: int, grid: Grid) -> list[tuple[int, Option]]:
    found = ((i, table.cell(layer, kind, grid.name, i)) for i in range(len(grid.cells)))
    return [(i, o) for i, o in found if o is not None]


def _longer(loads: Sequence[int], waits: Sequence[int]) -> tuple[int, ...]:
    """Loads that last longer, their bytes spread over the longer time."""
    return tuple(a + w for a, w in zip(loads, waits, strict=True))
