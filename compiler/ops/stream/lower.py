"""One face for all layers: legal folds, the engine of a layer, its cycles and resources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from compiler.ir.graph import ArgMax, Binary, Conv, GlobalAverage, Graph, Move, Node, Pool, Table
from compiler.isa.stream.ports import Illegal, Port, ports
from compiler.isa.stream.rates import unit_cycles
from compiler.isa.stream.resources import fifo_resources, unit_resources
from compiler.isa.stream.table import DRAM, LUTRAM, MEMORIES, VARIANTS
from compiler.ops.stream import combine, conv, simple
from compiler.ops.stream.joins import LEAST_DEPTH, handed_on
from compiler.ops.stream.parts import Draft, Engine, Fold, divisors, refuse, view
from compiler.ops.stream.sliced import Join, Part
from cost_models.finn import CaseError
from device_db.model import Resources

MATRICES = ("MVAU", "VVAU")
INNER_DEPTH = 2  # words of the FIFO between two units of an engine, unless the flow asks for more


@dataclass(frozen=True, slots=True)
class Option:
    """A legal fold with what it takes: cycles a frame of its slowest unit, and the resources of units and FIFOs.

    reads: elements a word of each input stream; gives: the word of the result."""

    fold: Fold
    cycles: int
    resources: Resources
    reads: tuple[int, ...]
    gives: Port


def channels_of(graph: Graph, node: Node) -> int:
    """What the lanes of a layer that is no convolution must divide."""
    if isinstance(node, Move):
        return simple.move_granule(graph, node)
    if isinstance(node, Binary):
        return node.y_shape[1]
    return view(graph, node.inputs[0])[1]


def legal_folds(graph: Graph, node: Node, has_uram: bool, external: bool = False) -> list[Fold]:
    """Every fold of a layer with its variants and memories. external: with those whose weights stand in DRAM."""
    if isinstance(node, Join):
        return combine.folds(node)
    if not isinstance(node, Conv):
        return [Fold(pe) for pe in divisors(channels_of(graph, node))]
    out = []
    for fold in conv.folds(graph, node):
        for variant in conv.variants(graph, node):
            out += [replace(fold, variant=variant, memory=m) for m in conv.memories(node, fold, has_uram, external)]
    return out


def lower(graph: Graph, node: Node, fold: Fold) -> Engine:
    """The engine of a layer. Raises FVC214 for what no streaming engine does."""
    if isinstance(node, Join):
        return combine.lower(graph, node, fold)
    if isinstance(node, Conv):
        return conv.lower(graph, node, fold)
    if isinstance(node, Pool):
        return simple.lower_pool(graph, node, fold)
    if isinstance(node, GlobalAverage):
        return simple.lower_global(graph, node, fold)
    if isinstance(node, Binary):
        return simple.lower_binary(graph, node, fold)
    if isinstance(node, Table):
        return simple.lower_table(graph, node, fold)
    if isinstance(node, Move):
        return simple.lower_move(graph, node, fold)
    assert isinstance(node, ArgMax)
    return simple.lower_argmax(graph, node, fold)


def price(graph: Graph, node: Node, fold: Fold, family: str, joined: int = 0) -> Option:
    """Cycles and resources of a fold. joined: on so many devices, with the least that joins it to others (`joins`).

    Raises FVC214, or Illegal for a fold that cannot be built."""
    return _price(graph, node, lower(graph, node, fold), fold, family, joined)


def _price(graph: Graph, node: Node, engine: Engine, fold: Fold, family: str, joined: int) -> Option:
    total = Resources()
    cycles = 0
    for draft in engine.units:
        ins = draft.instruction()
        cycles = max(cycles, unit_cycles(ins))
        total = total + unit_resources(ins, family)
    depth = LEAST_DEPTH if joined else INNER_DEPTH
    for (unit, port), _ in engine.streams:
        width = ports(engine.units[unit].instruction()).outputs[port].width_bits
        total = total + fifo_resources(width, depth, LUTRAM, family)
    reads = tuple(ports(engine.units[unit].instruction()).inputs[port].pe for unit, port in engine.inputs)
    gives = ports(engine.units[engine.output[0]].instruction()).outputs[engine.output[1]]
    if joined:
        total = total + handed_on(graph, node, gives, family, joined)
    return Option(fold, cycles, total, reads, gives)


def _rebuilt(option: Option, matrix: Draft, fold: Fold, family: str) -> Option:
    """What `price` gives of a fold that differs from the option's in the variant of its matrix unit and in where on the
    chip its weights stand: nothing else of the engine changes. Raises Illegal."""
    other = replace(matrix, fields=matrix.fields | {"variant": fold.variant, "memory": fold.memory}).instruction()
    ports(other)
    mine = unit_resources(matrix.instruction(), family)
    return replace(option, fold=fold, resources=option.resources - mine + unit_resources(other, family))


def signature(graph: Graph, node: Part) -> object:
    """Parts with the same have the same options: their units differ in no field at one fold, nor in what is cropped."""
    folds = tuple(legal_folds(graph, node, True))
    units = lower(graph, node, folds[-1]).units
    fields = tuple((u.op, tuple(sorted((k, v) for k, v in u.fields.items() if k != "fill"))) for u in units)
    return node.layer, folds, node.first, node.of, fields


def excess(graph: Graph, node: Node, fold: Fold, family: str, measured: Iterable[Sequence[Any]]) -> Resources:
    """What a layer takes beyond the estimate of its units, as synthesised; nothing at folds that were not.

    measured: rows (layer, PE, SIMD, memory or "", variant or "", LUT, FF, BRAM18, URAM, DSP)."""
    for layer, pe, simd, memory, variant, *amounts in measured:
        same = layer == node.name and (pe, simd) == (fold.pe, fold.simd)
        if same and memory in ("", MEMORIES[fold.memory]) and variant in ("", VARIANTS[fold.variant]):
            total = Resources(*amounts)
            for draft in lower(graph, node, fold).units:
                total = total - unit_resources(draft.instruction(), family)
            return total
    return Resources()


@lru_cache(maxsize=1024)
def priced(
    graph: Graph,
    node: Node,
    family: str,
    has_uram: bool,
    measured: tuple[tuple[Any, ...], ...] = (),
    joined: int = 0,
    external: bool = False,
) -> tuple[Option, ...]:
    """Every option that can be built, quickest first. measured: see `excess`, joined: see `price`, external: see
    `legal_folds`. Raises FVC214 if there is none."""
    found, why = [], ""
    built: dict[tuple[int, int], tuple[Option, Draft]] = {}  # one fold on the chip of each PE and SIMD
    for fold in legal_folds(graph, node, has_uram, external):
        try:
            shape = (fold.pe, fold.simd)
            if shape in built and fold.memory != DRAM:
                option = _rebuilt(*built[shape], fold, family)
            else:
                engine = lower(graph, node, fold)
                option = _price(graph, node, engine, fold, family, joined)
                matrix = next((u for u in engine.units if u.op in MATRICES), None)
                if matrix is not None and fold.memory != DRAM:
                    built[shape] = option, matrix
            more = excess(graph, node, fold, family, measured)
            found.append(replace(option, resources=option.resources + more) if measured else option)
        except (Illegal, CaseError) as problem:
            why = why or str(problem)
    if not found:
        raise refuse(node.name, node.op, why)
    found.sort(key=lambda o: (o.cycles, o.resources.lut, o.resources.dsp, o.resources.bram18, o.resources.uram, o.fold))
    return tuple(found)


@lru_cache(maxsize=1024)
def ladder(
    graph: Graph,
    node: Node,
    family: str,
    has_uram: bool,
    measured: tuple[tuple[Any, ...], ...] = (),
    joined: int = 0,
) -> tuple[Option, ...]:
    """Those of `priced` that no other one beats in cycles and every resource."""
    return undominated(priced(graph, node, family, has_uram, measured, joined))


def undominated(options: Iterable[Option]) -> tuple[Option, ...]:
    """Of options, quickest first, those that no quicker one beats in every resource."""
    own = tuple(options)
    rows = [(r.lut, r.ff, r.bram18, r.uram, r.dsp) for r in (o.resources for o in own)]
    takes = np.array(rows, np.int64).reshape(len(own), 5)
    beaten = np.zeros(len(own), np.bool_)
    for k in range(len(own)):
        if not beaten[k]:
            beaten[k + 1 :] |= (takes[k] <= takes[k + 1 :]).all(axis=1)
    return tuple(o for o, lost in zip(own, beaten, strict=True) if not lost)
