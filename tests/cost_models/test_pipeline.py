"""The pipeline recurrence against a token machine that knows nothing of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models.pipeline import PipelineState, advance, pipeline_interval, pipeline_makespan


@dataclass(frozen=True)
class Steps:
    ld_ahead: tuple[int, ...]
    ld_main: tuple[int, ...]
    cx_head: tuple[int, ...]
    cx_tail: tuple[int, ...]
    st: tuple[int, ...]


def steps(*rows: tuple[int, int, int, int, int]) -> Steps:
    return Steps(*zip(*rows, strict=True))


def token_machine(tasks: list[Steps]) -> int:
    """End of the last store when three in-order queues run the tile protocol of docs/machine.md, event by event.

    Each queue is a list of (duration, waits, posts); a wait takes the time at which its token was posted.
    """
    queues: dict[str, list[tuple[int, list[str], list[str]]]] = {"LD": [], "CX": [], "ST": []}
    for t in tasks:
        first_main = True
        rows = list(zip(t.ld_ahead, t.ld_main, t.cx_head, t.cx_tail, t.st, strict=True))
        for i, (ahead, main, head, tail, store) in enumerate(rows):
            group = bool(ahead or main)
            if group:
                queues["LD"].append((ahead, ["credit"], []))
                queues["LD"].append((main, ["layer"] if main and first_main else [], ["loaded"]))
                first_main = first_main and not main
            closes = i + 1 == len(rows) or bool(rows[i + 1][0] or rows[i + 1][1])
            queues["CX"].append((head, ["loaded"] if group else [], []))
            done = (["credit"] if closes else []) + (["result"] if store else [])
            queues["CX"].append((tail, ["slot"] if store else [], done))
            if store:
                last = not any(r[4] for r in rows[i + 1 :])
                queues["ST"].append((store, ["result"], ["slot"] + (["layer"] if last else [])))
    tokens = {"credit": deque([0, 0]), "slot": deque([0, 0]), "layer": deque([0]), "loaded": deque(), "result": deque()}
    free = dict.fromkeys(queues, 0)
    at = dict.fromkeys(queues, 0)
    moved = True
    while moved:
        moved = False
        for q, program in queues.items():
            while at[q] < len(program):
                duration, waits, posts = program[at[q]]
                if any(not tokens[w] for w in waits):
                    break
                start = max([free[q], *(tokens[w].popleft() for w in waits)])
                free[q] = start + duration
                for p in posts:
                    tokens[p].append(free[q])
                at[q] += 1
                moved = True
    assert all(at[q] == len(queues[q]) for q in queues)
    return free["ST"]


def test_one_tile_is_the_sum_of_its_parts() -> None:
    assert pipeline_makespan(steps((5, 10, 100, 20, 30))) == 165


def test_the_busiest_queue_rules_a_long_run() -> None:
    # loads 10, CX 100 + 20, stores 30: CX never waits after the first load
    assert pipeline_makespan(steps(*[(0, 10, 100, 20, 30)] * 50)) == 10 + 50 * 120 + 30


def test_a_third_load_waits_for_the_first_tile() -> None:
    # loads at 0-10, 10-20, and from the end of the first computation (110) on
    assert pipeline_makespan(steps((0, 10, 100, 0, 1), (0, 10, 100, 0, 1), (0, 150, 1, 0, 1))) == 110 + 150 + 1 + 1


def test_layers_are_serialised_but_weights_run_ahead() -> None:
    first, second = steps((0, 10, 50, 0, 40)), steps((30, 10, 50, 0, 40))
    state = advance(advance(PipelineState(), first), second)
    assert state.st == 100 + 10 + 50 + 40  # the 30 cycles of weights hide behind the first layer


def test_interval_of_one_layer_has_no_fill() -> None:
    assert pipeline_interval([steps((0, 10, 50, 0, 40))]) == 100


cell = st.integers(0, 40)
row = st.tuples(cell, cell, st.integers(1, 60), cell, st.integers(0, 40))


def legal(rows: list[tuple[int, int, int, int, int]]) -> Steps:
    """A task starts with a load of activations and ends with a store."""
    first, last = list(rows[0]), list(rows[-1])
    if len(rows) == 1:
        return steps((first[0], first[1] + 1, first[2], first[3], first[4] + 1))
    return steps((first[0], first[1] + 1, *first[2:]), *rows[1:-1], (*last[:4], last[4] + 1))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(row, min_size=1, max_size=9).map(legal), min_size=1, max_size=4))
def test_equals_the_token_machine(tasks: list[Steps]) -> None:
    state = PipelineState()
    for t in tasks:
        state = advance(state, t)
    assert state.st == token_machine(tasks)
