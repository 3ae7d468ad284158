"""The end of a cut layer: its parts' sums added, their channels put side by side, and the layer's own activation."""

from __future__ import annotations

from collections.abc import Callable
from math import gcd

from compiler.ir.graph import Graph
from compiler.isa.stream.table import MAX_INPUTS
from compiler.ops.stream.conv import DEFAULT_AXES, accumulator_bits, activation, input_range, restore
from compiler.ops.stream.parts import Element, End, Engine, Fold, divisors, element, x_fields, y_fields
from compiler.ops.stream.sliced import Join

Stream = End | int  # of a unit of the engine, or the number of an input


def folds(node: Join) -> list[Fold]:
    """Lanes that divide every row block."""
    return [Fold(pe) for pe in divisors(gcd(*node.rows))]


def lower(graph: Graph, node: Join, fold: Fold) -> Engine:
    """ADD where columns were cut, CAT where rows were, then the requantiser or thresholds of sums."""
    tree = _Tree(fold.pe, node.y_shape[0] * node.y_shape[2] * node.y_shape[3])
    made = element(graph.tensors[node.y])
    streams: list[Stream] = list(range(len(node.parts)))
    if node.columns > 1:
        low, high = input_range(graph, node.x)
        made = Element(accumulator_bits(node, low, high), True)
        x, step = element(graph.tensors[node.parts[0]]), node.columns
        own = [streams[k : k + step] for k in range(0, len(streams), step)]
        streams = [tree.add(s, x, made, channels) for s, channels in zip(own, node.rows, strict=True)]
    at = tree.cat(streams, made, node.rows)
    engine = tree.engine
    if node.columns > 1:
        at = activation(graph, node, fold, engine, at, tree.pixels)
    if node.axes != DEFAULT_AXES:
        engine.piece = at[0] if node.columns > 1 else None
        at = restore(graph, node, engine, at)
    engine.inputs = [port for _, port in sorted(tree.inputs)]
    engine.output = at
    return engine


class _Tree:
    """Units of at most eight inputs, level by level."""

    def __init__(self, pe: int, pixels: int) -> None:
        self.pe, self.pixels = pe, pixels
        self.engine = Engine()
        self.inputs: list[tuple[int, End]] = []  # number of an input, where it goes

    def add(self, streams: list[Stream], x: Element, y: Element, channels: int) -> End:
        f = {"pe": self.pe, **x_fields(x), **y_fields(y), "pixels": self.pixels, "channels": channels}
        return self._reduce(streams, lambda got: ("ADD", f | {"inputs": len(got)}))

    def cat(self, streams: list[Stream], x: Element, channels: tuple[int, ...]) -> End:
        sizes = dict(zip(streams, channels, strict=True))

        def unit(got: list[Stream]) -> tuple[str, dict[str, int]]:
            f = {"pe": self.pe, **x_fields(x), "pixels": self.pixels, "inputs": len(got)}
            sizes[(len(self.engine.units), 0)] = sum(sizes[g] for g in got)
            return "CAT", f | {f"c{k}": sizes[g] for k, g in enumerate(got)}

        return self._reduce(streams, unit)

    def _reduce(self, streams: list[Stream], unit: Callable[[list[Stream]], tuple[str, dict[str, int]]]) -> End:
        while len(streams) > 1:
            streams = [self._one(streams[k : k + MAX_INPUTS], unit) for k in range(0, len(streams), MAX_INPUTS)]
        assert not isinstance(streams[0], int)
        return streams[0]

    def _one(self, got: list[Stream], unit: Callable[[list[Stream]], tuple[str, dict[str, int]]]) -> Stream:
        if len(got) == 1:
            return got[0]
        number = self.engine.unit(*unit(got))
        for port, source in enumerate(got):
            if isinstance(source, int):
                self.inputs.append((source, (number, port)))
            else:
                self.engine.streams.append((source, (number, port)))
        return (number, 0)


__all__ = ["folds", "lower"]
