"""Costs between layouts against sums by hand; the bound with messages against predictions and simulations of plans."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pytest

from compiler.ir.graph import Graph
from compiler.partition import partition
from compiler.partition.build import build
from compiler.partition.costs import CostBook
from compiler.partition.defaults import ClusterRoutes, RealOps
from compiler.partition.engines import EngineChoice
from compiler.partition.layout import places
from compiler.partition.options import PartitionOptions, host_time_ns
from compiler.partition.pieces import Slot
from compiler.partition.planner import _assemble
from compiler.partition.prediction.predict import predict
from compiler.partition.problem import Allocation, Problem
from compiler.partition.search import decision_of, keep_weights, make_slots, message_latency, reference_khz
from compiler.partition.sharing import Sharing
from compiler.partition.solve.latency import _choices, listing
from compiler.partition.solve.latency_bound import longest_path, message_bound
from compiler.partition.solve.strategies import Strategies, Strategy
from compiler.partition.tabulate import Tabulator, placement_problem
from compiler.plan.model import Plan
from compiler.schedule import schedule
from compiler.simulator import simulate
from device_db import load_cluster
from device_db.model import Cluster
from tests.partition.graphs import residual

OPTIONS = PartitionOptions(objective="latency", time_limit_s=0.5)


@dataclass(slots=True)
class Case:
    """A placement problem with all that is needed to make a plan of any allocation."""

    graph: Graph
    cluster: Cluster
    book: CostBook
    slots: list[Slot]
    problem: Problem
    latency: dict[tuple[int, int], int]
    choices: dict[int, list[Strategy]]

    @classmethod
    def of(cls, graph: Graph, devices: str, more: bool = False) -> Case:
        """more: with the grids that the second search has, and those that share weights or inputs."""
        cluster = load_cluster(devices)
        book, here, khz = CostBook(graph, RealOps()), places(cluster, None), reference_khz(cluster)
        engines = EngineChoice(graph, cluster, here, book, khz).best(True)
        assert engines is not None
        slots = make_slots(cluster, here, engines, 0, 0)
        tab = Tabulator(graph, slots, book, book.ops, khz, OPTIONS)
        if more:
            tab.sharing = Sharing(graph, slots, cluster, khz, always=False)
        tab.whole()
        tab.slices()
        if more:
            tab.shares()
            tab.more()
        problem = placement_problem(tab, cluster, ClusterRoutes(cluster), OPTIONS, range(len(slots)))
        choices = {x.index: _choices(problem, x.index) for x in problem.table.layers}
        return cls(graph, cluster, book, slots, problem, message_latency(problem, cluster), choices)

    def plan(self, allocation: Allocation) -> Plan:
        kept = decision_of(self.graph, self.slots, self.problem, keep_weights(self.problem, allocation), self.book)
        body = build(self.graph, self.slots, [kept], self.book.ops, ClusterRoutes(self.cluster), OPTIONS)
        assert body is not None
        return _assemble(self.graph, self.cluster, OPTIONS, body, 1)

    def bound(self, choices: dict[int, list[Strategy]]) -> int:
        host = {h.name: host_time_ns(h.name, OPTIONS) * self.problem.ref_khz // 10**6 for h in self.graph.host_segments}
        return message_bound(self.problem, self.graph, Strategies(self.problem, self.latency, choices), host)


@pytest.mark.parametrize(("devices", "tail"), [("zcu102x2", False), ("zcu102x3", True), ("u280x2", True)])
def test_no_plan_is_quicker_than_its_bound(devices: str, tail: bool) -> None:
    """Random strategies a layer: the bound over those alone, which is the tightest, is below the plan's latency, as the
    prediction and the simulator have it, and not far below; over all strategies it is below that."""
    case = Case.of(residual(blocks=2, channels=48, side=30, tail=tail), devices)
    everything = case.bound(case.choices)
    lottery = random.Random(1)
    near = []
    for turn in range(8):
        allocation = {x: lottery.choice(own) for x, own in case.choices.items()}
        own = case.bound({x: [shares] for x, shares in allocation.items()})
        plan = case.plan(allocation)
        said = predict(plan, case.graph, case.cluster)
        assert everything <= own <= said["latency_cycles"]
        near.append(own / said["latency_cycles"])
        if turn < 2:
            ns = simulate(schedule(case.graph, plan, case.cluster)).latency_ns
            segments = sum(host_time_ns(h.name, OPTIONS) for h in case.graph.host_segments)
            assert (own - segments * case.problem.ref_khz // 10**6) * 10**6 // case.problem.ref_khz <= ns
    assert max(near) > 0.95


def test_rows_beside_rows_cost_a_halo_and_rows_beside_channels_nearly_all() -> None:
    """conv0a (3x3) to conv0b (1x1) and add0 to conv1a (3x3), 48 channels of 30 x 30 on two boards, by hand."""
    case = Case.of(residual(blocks=2, channels=48, side=30), "zcu102x2")
    names = {x.name: x.index for x in case.problem.table.layers}
    strategies = Strategies(case.problem, case.latency, case.choices)
    model = strategies.model()

    def at(layer: str, split: str) -> int:
        return next(k for k, s in enumerate(case.choices[names[layer]]) if s[0].split == split and s[0].slot == 0)

    def cost(a: str, b: str, left: str, right: str) -> int:
        edge = next(e for e in model.edges if (e.a, e.b) == (names[a], names[b]))
        return int(edge.cost[at(a, left), at(b, right)])

    rate = min(k.bits_per_second for k in case.problem.links if k.bits_per_second and "pcie" not in k.id.lower())
    late = case.latency[(0, 1)]
    unit = case.problem.ref_khz * 1000

    def passing(elements: int) -> int:
        return -(-elements * 8 * unit // rate) + late

    assert cost("conv0a", "conv0b", "Pr=2", "Pr=2") == 0
    assert cost("add0", "conv1a", "Pr=2", "Pr=2") == passing(48 * 30)
    assert cost("add0", "conv1a", "Pr=2", "Pm=2") == passing(48 * 15 * 30)
    assert cost("add0", "conv1a", "", "") == 0
    assert cost("add0", "conv1a", "", "Pm=2") == passing(48 * 30 * 30)
    # The skip from add0 to add1 has the two convolutions' time: nothing is left of a halo-free half.
    assert cost("add0", "add1", "Pr=2", "Pr=2") == 0


def test_layers_however_short_may_be_cut() -> None:
    """A layer of a hundredth of the work is cut with its neighbours, or every frame waits for it on one board."""
    case = Case.of(residual(blocks=30, channels=16, side=12), "zcu102x2")
    layers = case.problem.table.layers
    assert len(layers) > 80
    assert all({"Pr=2", "Pm=2"} <= set(x.grids) for x in layers)


def test_layers_kept_together_stand_together_in_the_optimum() -> None:
    case = Case.of(residual(blocks=1, channels=16, side=12), "zcu102x2")
    case.problem.stuck = [(0, 1)]
    case.choices = {x: _choices(case.problem, x) for x in case.choices}
    model = Strategies(case.problem, case.latency, case.choices).model()
    from compiler.partition.pairwise import solve

    chosen = solve(model).chosen
    assert case.choices[0][chosen[0]][0].slot == case.choices[1][chosen[1]][0].slot


def test_a_plan_says_what_is_proven() -> None:
    graph, cluster = residual(blocks=3), load_cluster("u280x2")
    plan = partition(graph, cluster, OPTIONS)
    note = next(n for n in plan.solver.notes if n.startswith("additive model"))
    assert "its optimum (elimination" in note
    assert 0 < plan.solver.bound <= plan.solver.objective == plan.predicted["latency_cycles"]
    case = Case.of(graph, "u280x2")
    assert plan.solver.bound >= longest_path(case.problem, graph, case.latency, {})


def test_a_short_list_has_every_cut_once_first() -> None:
    case = Case.of(residual(blocks=1), "u280x2")
    full = case.choices[0]
    names = dict.fromkeys(s[0].split for s in full)
    cells = sum(len(next(s for s in full if s[0].split == n)) for n in names)
    assert [s[0].split for s in listing(full, cells)] == list(names)
    assert listing(full, 10**6) == full
    assert np.array_equal([len(listing(full, 0))], [1])
