"""The checker's order, footprints and deadlock verdicts against plain simulations that unroll everything."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isa_strategies import random_program

from compiler.isa.check.findings import Findings
from compiler.isa.check.segments import compress, rows_of
from compiler.isa.check.tokens import NEVER, local_order
from compiler.isa.check.view import view_core
from compiler.isa.program import CoreProgram, Instruction
from compiler.isa.table import Queue


def token_core(seed: int) -> CoreProgram:
    """SYNCs on three queues with random tokens and markings, balanced by construction; often deadlocked."""
    rng = random.Random(seed)
    queues = (Queue.LD, Queue.CX, Queue.ST)
    body = {q: [Instruction("SYNC", q, {}) for _ in range(rng.randint(1, 5))] for q in queues}
    marking = [[0] * 6 for _ in range(6)]
    for a in queues:
        for b in queues:
            if a == b or rng.random() < 0.3:
                continue
            count = rng.randint(1, min(len(body[a]), len(body[b])))
            for i in rng.sample(body[a], count):
                i.post |= 1 << b
            for i in rng.sample(body[b], count):
                i.wait |= 1 << a
            marking[a][b] = rng.randint(0, 3)
    core = random_program(0, cores=1).cores[0]
    core.queues, core.marking = body, tuple(tuple(row) for row in marking)
    return core


def replay(core: CoreProgram, iterations: int, hold: tuple[Queue, int] | None = None) -> list[tuple[Queue, int]]:
    """Runs as far as tokens allow; `hold`: a queue and the instance at which it stands still. Order of completion."""
    tokens = [list(row) for row in core.marking]
    at = dict.fromkeys(core.queues, 0)
    done = []
    moved = True
    while moved:
        moved = False
        for q, body in core.queues.items():
            while at[q] < iterations * len(body) and (q, at[q]) != hold:
                i = body[at[q] % len(body)]
                needed = [p for p in range(6) if i.wait >> p & 1]
                if any(tokens[p][q] == 0 for p in needed):
                    break
                for p in needed:
                    tokens[p][q] -= 1
                for p in range(6):
                    tokens[q][p] += i.post >> p & 1
                done.append((q, at[q]))
                at[q] += 1
                moved = True
    return done


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**6))
def test_deadlock_is_found_exactly(seed):
    core = token_core(seed)
    iterations = 12
    complete = len(replay(core, iterations)) == iterations * sum(len(b) for b in core.queues.values())
    findings = Findings()
    order = local_order(view_core("dev", core), findings)
    assert ("FVC325" in findings.counts) == (not complete)
    assert order is not None or not complete or "FVC324" in findings.counts


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6))
def test_clocks_are_what_holding_an_instruction_back_shows(seed):
    """a happens before b if and only if b never completes while a is held back (far from the first iteration)."""
    core = token_core(seed)
    findings = Findings()
    view = view_core("dev", core)
    order = local_order(view, findings)
    if order is None:
        return
    far, iterations = 14, 18
    for a_queue, a_body in core.queues.items():
        for a in range(len(a_body)):
            done = set(replay(core, iterations, hold=(a_queue, far * len(a_body) + a)))
            for b_queue, b_body in core.queues.items():
                for b in range(len(b_body)):
                    if (a_queue, a) == (b_queue, b):
                        continue
                    for later in (0, 1, 2):
                        k = int(view.first[b_queue]) + b
                        clock = int(order.clock[k, a_queue])
                        ordered = clock > NEVER // 2 and clock + later * len(a_body) > a
                        assert ordered == ((b_queue, (far + later) * len(b_body) + b) not in done)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6))
def test_bound_on_tokens_is_reached_or_refused(seed):
    """Whatever order the queues run in, no semaphore of an accepted core exceeds 255, and of these small ones 60."""
    core = token_core(seed)
    findings = Findings()
    if local_order(view_core("dev", core), findings) is None or findings.kept:
        return
    rng = random.Random(seed)
    tokens = [list(row) for row in core.marking]
    at = dict.fromkeys(core.queues, 0)
    favourite = rng.choice(list(core.queues))
    for _ in range(400):
        ready = []
        for q, body in core.queues.items():
            i = body[at[q] % len(body)]
            if all(tokens[p][q] for p in range(6) if i.wait >> p & 1):
                ready.append(q)
        q = favourite if favourite in ready else rng.choice(ready)
        i = core.queues[q][at[q] % len(core.queues[q])]
        for p in range(6):
            tokens[p][q] -= i.wait >> p & 1
            tokens[q][p] += i.post >> p & 1
        at[q] += 1
        assert max(map(max, tokens)) <= 60


boxes = st.tuples(
    st.integers(0, 300),
    st.lists(st.tuples(st.integers(1, 4), st.integers(-40, 40)), min_size=4, max_size=4),
    st.integers(1, 9),
)


def touched(box) -> set[int]:
    address, dims, run = box
    found = {address}
    for count, stride in dims:
        found = {a + k * stride for a in found for k in range(count)}
    return {a + k for a in found for k in range(run)}


@given(st.lists(boxes, min_size=1, max_size=6))
def test_segments_are_exactly_the_bytes(some):
    rows = [rows_of(a, np.array([c for c, _ in d]), np.array([s for _, s in d]), r) for a, d, r in some]
    segments = compress(rows)
    edges = segments.edges.tolist()
    for box, where in zip(some, segments.where, strict=True):
        numbers = range(where.start, where.stop) if isinstance(where, slice) else where.tolist()
        covered = {byte for k in numbers for byte in range(edges[k], edges[k + 1])}
        assert covered == touched(box)


def test_unbounded_tokens_are_refused():
    core = token_core(0)
    core.queues = {
        Queue.LD: [Instruction("SYNC", Queue.LD, {}, post=1 << Queue.CX)],
        Queue.CX: [Instruction("SYNC", Queue.CX, {}, wait=1 << Queue.LD)],
    }
    core.marking = tuple(tuple(0 for _ in range(6)) for _ in range(6))
    findings = Findings()
    local_order(view_core("dev", core), findings)
    assert "FVC324" in findings.counts
    assert "run ahead for ever" in findings.kept[0].what


@pytest.mark.parametrize(("marking", "legal"), [(1, True), (255, True), (0, False), (256, False)])
def test_a_ping_pong_needs_a_ball(marking, legal):
    core = token_core(0)
    core.queues = {
        Queue.LD: [Instruction("SYNC", Queue.LD, {}, wait=1 << Queue.CX, post=1 << Queue.CX)],
        Queue.CX: [Instruction("SYNC", Queue.CX, {}, wait=1 << Queue.LD, post=1 << Queue.LD)],
    }
    rows = [[0] * 6 for _ in range(6)]
    rows[Queue.CX][Queue.LD] = marking
    core.marking = tuple(tuple(r) for r in rows)
    findings = Findings()
    local_order(view_core("dev", core), findings)
    assert (not findings.kept) == legal
