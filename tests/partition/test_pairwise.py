"""The pairwise room against judges of its own: all choices counted, Viterbi's recurrence, way against way."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compiler.partition.pairwise import FORBIDDEN, Answer, Edge, Effort, Pairwise, solve
from compiler.partition.pairwise.ascent import FINE, ascend
from compiler.partition.pairwise.eliminate import exact
from compiler.partition.pairwise.improve import improve
from compiler.partition.pairwise.integer import programme
from compiler.partition.pairwise.solve import knotted

QUICK = Effort(sweeps=20, rounds=2, seconds=2.0)
Links = list[tuple[int, int]]


def chain(n: int) -> Links:
    return [(k, k + 1) for k in range(n - 1)]


def residual(n: int, every: int = 4) -> Links:
    """A chain with a skip over every few nodes."""
    return chain(n) + [(k, k + every) for k in range(0, n - every, every)]


def tree(n: int, rng: np.random.Generator) -> Links:
    return [(int(rng.integers(0, k)), k) for k in range(1, n)]


def lattice(width: int, height: int) -> Links:
    across = [(r * width + c, r * width + c + 1) for r in range(height) for c in range(width - 1)]
    return across + [(k, k + width) for k in range(width * (height - 1))]


def instance(links: Links, sizes: list[int], rng: np.random.Generator, top: int = 1000, never: float = 0.0) -> Pairwise:
    """Random costs; `never`: share of them that are forbidden."""

    def costs(*shape: int) -> np.ndarray:
        table = rng.integers(0, top, shape)
        return np.where(rng.random(shape) < never, FORBIDDEN, table)

    return Pairwise.of([costs(n) for n in sizes], [(a, b, costs(sizes[a], sizes[b])) for a, b in links])


def viterbi(problem: Pairwise) -> int:
    """The least cost of a chain, by the textbook recurrence on Python's own numbers."""
    between = {(e.a, e.b): e.cost.tolist() for e in problem.edges}
    best = problem.costs[0].tolist()
    for v in range(1, len(problem.costs)):
        step = between[(v - 1, v)]
        own = problem.costs[v].tolist()
        best = [own[t] + min(best[s] + step[s][t] for s in range(len(best))) for t in range(len(own))]
    return min(best)


def counted(problem: Pairwise) -> int:
    """The least cost over all choices."""
    sizes = [range(c.size) for c in problem.costs]
    return min(
        sum(int(c[s]) for c, s in zip(problem.costs, pick, strict=True))
        + sum(int(e.cost[pick[e.a], pick[e.b]]) for e in problem.edges)
        for pick in product(*sizes)
    )


def holds(problem: Pairwise, answer: Answer, least: int) -> None:
    """The answer is this optimum, says so, and its choice has that cost."""
    assert answer.status == "OPTIMAL"
    assert answer.objective == answer.bound == least == problem.value(answer.chosen)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(1, 9), st.integers(0, 10**9))
def test_chains_equal_viterbi(nodes: int, most: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = instance(chain(nodes), rng.integers(1, most + 1, nodes).tolist(), rng)
    least = viterbi(problem)
    holds(problem, solve(problem), least)
    holds(problem, knotted(problem, QUICK), least)
    certificate, _ = ascend(problem, 1)
    assert least - nodes <= certificate.bound <= least  # shares of whole numbers are rounded


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 14), st.integers(0, 10**9), st.sampled_from([0.0, 0.4]))
@example(3, 2, 4, 92, 0.4)
def test_small_graphs_equal_all_choices_counted(n: int, most: int, edges: int, seed: int, never: float) -> None:
    """Any graph, parallel edges and loops too; where every choice has a forbidden pair, that is what is proven."""
    rng = np.random.default_rng(seed)
    links = [(int(rng.integers(n)), int(rng.integers(n))) for _ in range(edges)]
    problem = instance(links, rng.integers(1, most + 1, n).tolist(), rng, 50, never)
    least = counted(problem)
    for answer in (solve(problem), knotted(problem, QUICK), solve(problem, Effort(table=1, sweeps=3, rounds=1))):
        if least >= FORBIDDEN:
            assert answer.status == "INFEASIBLE" and not answer.chosen
        else:
            holds(problem, answer, least)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(["tree", "residual", "lattice"]))
def test_elimination_and_the_integer_programme_agree(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    links = {"tree": tree(14, rng), "residual": residual(14), "lattice": lattice(4, 3)}[kind]
    nodes = max(max(link) for link in links) + 1
    problem = instance(links, rng.integers(2, 5, nodes).tolist(), rng)
    answer = solve(problem)
    whole = programme(problem, 20.0)
    assert whole.objective == whole.bound == answer.objective == answer.bound


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**9))
def test_certificates_move_costs_and_lose_none(seed: int) -> None:
    """Every choice costs what it did before, and the bound is below the optimum, which stays open."""
    rng = np.random.default_rng(seed)
    problem = instance(lattice(3, 3), [3] * 9, rng)
    certificate, choices = ascend(problem, 6)
    for pick in rng.integers(0, 3, (20, 9)).tolist():
        moved = sum(int(t[s]) for t, s in zip(certificate.own, pick, strict=True))
        moved += sum(int(t[pick[e.a], pick[e.b]]) for e, t in zip(problem.edges, certificate.pair, strict=True))
        assert moved == FINE * problem.value(pick)
    got = exact(problem, 1 << 20)
    assert got is not None
    best, least, _ = got
    assert certificate.bound <= least
    assert all(s in own for s, own in zip(best, certificate.open(least), strict=True))
    assert least <= problem.value(improve(problem, choices[0], 9, 2, 0)) <= problem.value(choices[0])


def test_forbidden_pairs_are_proven_impossible() -> None:
    never = np.full((2, 2), FORBIDDEN)
    problem = Pairwise.of([np.zeros(2), np.zeros(2)], [(0, 1, never)])
    for answer in (solve(problem), knotted(problem, QUICK)):
        assert (answer.status, answer.chosen) == ("INFEASIBLE", ())
    assert solve(Pairwise.of([], [])).objective == 0


@pytest.mark.parametrize(
    ("costs", "edges"),
    [([[1], []], []), ([[-1]], []), ([[1], [2]], [(0, 1, [[1, 2]])]), ([[FORBIDDEN - 1], [FORBIDDEN - 1]], [])],
)
def test_what_is_no_problem_is_refused(costs: list[list[int]], edges: list[tuple[int, int, list[list[int]]]]) -> None:
    with pytest.raises(ValueError):
        Pairwise.of([np.array(c, np.int64) for c in costs], [(a, b, np.array(t)) for a, b, t in edges])


def test_the_same_edge_twice_in_both_directions_is_their_sum() -> None:
    one, two = np.array([[1, 9]]), np.array([[3], [4]])
    problem = Pairwise.of([np.zeros(1), np.zeros(2)], [(0, 1, one), (1, 0, two), (1, 1, np.array([[7, 0], [0, 2]]))])
    assert [(e.a, e.b) for e in problem.edges] == [(0, 1)]
    assert isinstance(problem.edges[0], Edge)
    assert [problem.value((0, s)) for s in (0, 1)] == [1 + 3 + 7, 9 + 4 + 2]
    assert solve(problem).objective == 11


def test_where_tables_are_too_large_the_answer_is_bounded_on_both_sides() -> None:
    """A lattice that elimination may not take: the optimum, known by elimination, lies between bound and objective."""
    rng = np.random.default_rng(3)
    problem = instance(lattice(5, 8), [6] * 40, rng)
    got = exact(problem, 1 << 20)
    assert got is not None
    answer = solve(problem, Effort(table=6**3, sweeps=30, rounds=4, pairs=0))
    assert answer.bound <= got[1] <= answer.objective == problem.value(answer.chosen)
    assert answer.gap < 0.05
    assert answer == solve(problem, Effort(table=6**3, sweeps=30, rounds=4, pairs=0))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["chain", "residual", "tree"])
def test_260_layers_of_15_strategies(kind: str) -> None:
    rng = np.random.default_rng(15)
    links = {"chain": chain(260), "residual": residual(260), "tree": tree(260, rng)}[kind]
    problem = instance(links, [15] * 260, rng, 10_000)
    answer = solve(problem)
    holds(problem, answer, answer.objective)
    if kind == "chain":
        assert answer.objective == viterbi(problem)
    holds(problem, knotted(problem, Effort()), answer.objective)
