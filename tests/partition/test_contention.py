"""The contended pipeline against the plain recurrence and against sums that nothing can beat."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.partition.contention import _Core, contended, run, run_plain
from cost_models.pipeline import pipeline_makespan

Ints = tuple[int, ...]


@dataclass(frozen=True)
class Fake:
    ld_ahead: Ints
    ld_main: Ints
    cx_head: Ints
    cx_tail: Ints
    st: Ints
    ld_bus_bytes: Ints
    st_bus_bytes: Ints


@st.composite
def timelines(draw: st.DrawFn) -> Fake:
    n = draw(st.integers(1, 8))
    small = st.integers(0, 60)
    ahead = [draw(small) for _ in range(n)]
    main = [draw(small) for _ in range(n)]
    main[0] = main[0] or 5
    store = [draw(st.sampled_from([0, 7, 40])) for _ in range(n)]
    store[-1] = store[-1] or 9
    head, tail = ([draw(small) for _ in range(n)] for _ in range(2))
    bus = [10 * (a + m) for a, m in zip(ahead, main, strict=True)]
    return Fake(*(tuple(x) for x in (ahead, main, head, tail, store, bus, [10 * s for s in store])))


@settings(max_examples=80, deadline=None)
@given(st.lists(timelines(), min_size=1, max_size=4))
def test_without_contention_it_is_the_plain_recurrence(tasks: list[Fake]) -> None:
    plain, events = run_plain(tasks), _Core(tasks, 1000.0).run()
    assert all(abs(a - b) < 1e-3 for a, b in zip(plain.end, events.end, strict=True))


@settings(max_examples=80, deadline=None)
@given(st.lists(timelines(), min_size=1, max_size=4), st.integers(11, 20))
def test_a_shared_bank_never_speeds_up_and_never_gives_more_than_it_has(tasks: list[Fake], rate: int) -> None:
    plain, shared = run_plain(tasks), _Core(tasks, float(rate)).run()
    assert shared.end[-1] >= plain.end[-1] - 1e-3
    moved = sum(sum(t.ld_bus_bytes) + sum(t.st_bus_bytes) for t in tasks)
    assert shared.end[-1] >= moved / rate - 1e-3


def test_one_task_ends_with_its_makespan() -> None:
    t = Fake((3, 0), (5, 4), (2, 2), (1, 1), (0, 6), (0, 0), (0, 0))
    assert run([t], 1.0).end[0] == pipeline_makespan(t)


def test_overlap_at_half_speed() -> None:
    """A load of 100 cycles beside a store of 100, each wanting the whole bank: both take 200."""
    t = Fake((0, 0, 0), (10, 10, 100), (1, 1, 1), (0, 0, 0), (100, 1, 1), (100, 100, 1000), (1000, 10, 10))
    assert contended(t, 10.0)
    assert run([t], 10.0).end[0] >= 200
