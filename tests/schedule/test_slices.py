"""Slices of rows, columns, batch, channels and sums: random cuts on random cores give the golden executor's tensors."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.ir.graph import Conv, DType, Node, storage4
from compiler.ops import input_boxes, partial_name, splits, task_cost
from compiler.ops.boxes import whole_box
from compiler.plan.model import Box, SlicePlan
from tests.ops.graphs import Builder, random_graph
from tests.schedule.running import assert_equal
from tests.schedule.toy import SMALL, TINY, Toy

DIES = [(f"u280-{d}", f"SLR{k}") for d in range(4) for k in range(3)]


class Sliced(Toy):
    """Every layer cut at random places along every axis that allows it, its pieces on random cores.

    factors: the cuts used; most: pieces along one axis at most; sums: input channels cut too, where they may be.
    """

    def __init__(self, graph, spec, cores, rng, *, factors=("Pb", "Pr", "Pc", "Pm"), most=3, sums=False, **more):
        super().__init__(graph, spec, cores, **more)
        self.rng, self.factors, self.most, self.sums = rng, factors, most, sums

    def cells(self, node: Node) -> list[Box]:
        box = whole_box(storage4(self.graph.tensors[node.y].shape))
        ranges = [[(box[2 * a], box[2 * a + 1])] for a in range(4)]
        for c in splits(self.graph, node).cuts:
            units = -(-c.extent // c.quantum)
            if c.factor not in self.factors or units < 2:
                continue
            parts = int(self.rng.integers(1, min(self.most, units) + 1))
            at = sorted(self.rng.choice(np.arange(1, units), parts - 1, replace=False)) if parts > 1 else []
            points = [0, *(int(i) * c.quantum for i in at), c.extent]
            ranges[c.axis] = list(pairwise(points))
        return [(*n, *ch, *h, *w) for n, ch, h, w in product(*ranges)]

    def _layer(self, node, home, engines, r, made, stage_of, room, first: int) -> list[SlicePlan]:
        out: list[SlicePlan] = []
        made[node.y] = []
        reduce = splits(self.graph, node).reduce

        def add(role: str, box: Box, k0: int, k1: int, reads, partials: int = 2) -> str:
            engine = engines[int(self.rng.integers(len(engines)))]
            cost = task_cost(self.graph, node, role, box, (k0, k1), self.spec, "stream", partials)
            assert cost is not None
            stage = stage_of(reads, engine.id)
            name = f"{node.name}#{first + len(out)}"
            out.append(
                SlicePlan(name, engine.id, role, box, k0, k1, stage, self.order, "stream", cost.tile, cost.cycles, r)
            )
            self.order += 1
            return engine.id

        cells = self.cells(node)
        if self.sums and isinstance(node, Conv) and reduce > 1 and self.rng.random() < 0.5:
            cut = int(self.rng.integers(1, reduce))
            parts = []
            for box in cells:
                for k0, k1 in ((0, cut), (cut, reduce)):
                    name = partial_name(node.name, len(out))
                    engine = add(
                        "partial", box, k0, k1, input_boxes(self.graph, node, "partial", box, (k0, k1)).items()
                    )
                    made[name] = [(box, engine, out[-1].stage)]
                    parts.append((name, box))
            for box in cells:
                engine = add("reduce", box, 0, 0, [(n, b) for n, b in parts if b == box])
                made[node.y].append((box, engine, out[-1].stage))
            return out
        for box in cells:
            engine = add("full", box, 0, 0, input_boxes(self.graph, node, "full", box).items())
            made[node.y].append((box, engine, out[-1].stage))
        return out


@pytest.mark.parametrize("seed", range(16))
def test_random_graphs_cut_everywhere(seed: int) -> None:
    b = random_graph(seed, steps=5)
    rng = np.random.default_rng(seed + 5000)
    toy = Sliced(
        b.graph(), (TINY, SMALL)[seed % 2], DIES[: int(rng.integers(2, 5))], rng, sums=True,
        pipelined=bool(rng.integers(2)), replicas=1 + seed % 2,
    )  # fmt: skip
    assert_equal(b.graph(), toy.plan(), [b.frame() for _ in range(3)], seed if seed % 3 == 0 else None)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 300))
def test_many_random_graphs_cut_everywhere(seed: int) -> None:
    test_random_graphs_cut_everywhere(seed)


@st.composite
def chains(draw):
    """A chain of windows and element-wise layers on a tensor of odd sizes; kernels up to the whole of its height."""
    b = Builder(draw(st.integers(0, 10_000)), draw(st.sampled_from([DType.U8, DType.S8])))
    x = b.input(
        (
            draw(st.sampled_from([1, 1, 2, 3])),
            draw(st.integers(1, 12)),
            draw(st.integers(3, 15)),
            draw(st.integers(2, 15)),
        )
    )
    for _ in range(draw(st.integers(1, 4))):
        _, c, h, w = b.tensors[x].shape
        what = draw(st.sampled_from(["conv", "depthwise", "grouped", "max", "average", "add", "table", "matmul"]))
        kernel = draw(st.tuples(st.integers(1, min(7, h)), st.integers(1, min(5, w))))
        stride = draw(st.tuples(st.integers(1, 4), st.integers(1, 3)))
        if what in ("conv", "depthwise", "grouped"):
            pads = draw(st.tuples(*[st.integers(0, 4)] * 4))
            dilations = tuple(
                draw(st.integers(1, 3)) if (k - 1) * 3 < size + a + z else 1
                for k, size, a, z in zip(kernel, (h, w), pads[:2], pads[2:], strict=True)
            )
            groups = {"conv": 1, "depthwise": c}.get(what) or next(g for g in (3, 2, 1) if c % g == 0)
            x = b.conv(x, groups * draw(st.integers(1, 5)), kernel, stride, pads, dilations, groups)
        elif what in ("max", "average"):
            pads = tuple(draw(st.integers(0, k - 1)) for k in (*kernel, *kernel))
            x = b.pool(x, what, kernel, stride, pads, (1, 1), draw(st.booleans()))
        elif what == "add":
            other = tuple(1 if draw(st.booleans()) else s for s in b.tensors[x].shape)
            x = b.binary(
                x, b.input(other) if draw(st.booleans()) else b.constant(other), draw(st.sampled_from(["add", "mul"]))
            )
        elif what == "table":
            x = b.table(x, draw(st.booleans()))
        else:
            x = b.conv(x, draw(st.integers(1, 9)), axes=(0, 3, 1, 2))
    return b


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    chains(),
    st.sampled_from(["Pb", "Pr", "Pc", "Pm", "Pr Pm", "Pr Pc", "Pb Pr Pc Pm"]),
    st.integers(2, 5),
    st.booleans(),
    st.booleans(),
    st.integers(0, 1000),
)
def test_chains_by_every_factor(b: Builder, factors: str, most: int, sums: bool, pipelined: bool, seed: int) -> None:
    toy = Sliced(
        b.graph(), TINY, DIES[:3], np.random.default_rng(seed), factors=factors.split(), most=most, sums=sums,
        pipelined=pipelined,
    )  # fmt: skip
    assert_equal(b.graph(), toy.plan(), [b.frame() for _ in range(2)])
