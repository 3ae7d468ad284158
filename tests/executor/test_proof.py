"""Functions compared as a whole: what `compare_requantisers` says is what trying every accumulator says."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.executor.exact import binary_table
from compiler.executor.levels import Scaling
from compiler.executor.makers import Requantisers
from compiler.executor.proof import compare_requantisers
from compiler.executor.reference import Reference
from compiler.executor.stimulus import made_inputs
from compiler.executor.vector import VREQ_ENTRY
from compiler.executor.verify import verify_programs
from compiler.isa.container import read_device
from compiler.isa.table import MODE_FIXED, MODE_FP32, MODE_THRESHOLD, Queue
from tests.bundles import digits, make_bundle
from tests.executor.test_verify import HOST, M, model, program

ROWS = np.zeros(1, np.int64)


def entry(mode: int, word: int | np.float32, shift: int = 0, steps: int = 0, add: int = 0) -> Any:
    e = np.zeros(1, VREQ_ENTRY)
    e["scale"] = np.float32(word).view(np.int32) if mode == MODE_FP32 else word
    e["shift"], e["mode"], e["steps"], e["add"] = shift, mode, steps, add
    return e


def model_of(low: int, high: int, scale: float, zero: int) -> Scaling:
    return Scaling(np.array([low]), np.array([high]), np.float32([scale]), zero, 0, 255)


@given(
    st.integers(-4000, 4000), st.integers(0, 5000), st.floats(2**-12, 2, width=32), st.integers(0, 255),
    st.integers(-2, 2), st.integers(-40, 40), st.integers(8, 20),
)  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_fixed_forms(low: int, span: int, scale: float, zero: int, slip: int, shift_by: int, shift: int) -> None:
    """Multiplier and offset at the best values or a little off: equal if and only if all accumulators agree."""
    multiplier = round(scale * 2**shift) + slip
    add = (zero << shift) + (1 << shift - 1) + shift_by
    maker = Requantisers(entry(MODE_FIXED, multiplier, shift, add=add), {}, 0, 255, 0)
    wanted = model_of(low, low + span, scale, zero)
    acc = np.arange(low, low + span + 1)
    got = np.clip((acc * multiplier + add) >> shift, 0, 255)
    every = np.clip(np.rint(acc.astype(np.float32) * np.float32(scale)).astype(np.int64) + zero, 0, 255)
    found = compare_requantisers(maker, ROWS, ROWS, wanted)
    assert (found is None) == np.array_equal(got, every)
    if found is not None:
        assert isinstance(found.operand, int)
        at = found.operand - low
        assert (got[at], every[at]) == (found.got, found.wanted)


def test_large_accumulators_are_rounded_to_float32_first() -> None:
    """Beyond 2^24 the model's steps lie where float32 puts them: the same formula is equal, a fixed one is not."""
    wanted = model_of(2**25, 2**25 + 600, 0.5, 0)
    wide = Scaling(wanted.low, wanted.high, wanted.scale, -(2**24), 0, 255)
    same = Requantisers(entry(MODE_FP32, np.float32(0.5)), {}, 0, 255, -(2**24))
    exact = Requantisers(entry(MODE_FIXED, 1, 1, add=-(2**25)), {}, 0, 255, 0)
    assert compare_requantisers(same, ROWS, ROWS, wide) is None
    assert compare_requantisers(exact, ROWS, ROWS, wide) is not None


@pytest.mark.parametrize("off", [0, 1])
def test_threshold_and_float_forms(off: int) -> None:
    """result = #{t : t <= acc} with t = 10, 30, 50: rint(acc / 20)."""
    wanted = model_of(0, 60, 0.05, 0)
    steps = np.array([11, 30 + off, 50], np.int32)  # 10 / 20 and 50 / 20 are ties, which go to the even 0 and 2
    steps[2] += 1 if np.rint(np.float32(50) * np.float32(0.05)) == 2 else 0
    steps[0] -= 1 if np.rint(np.float32(10) * np.float32(0.05)) == 1 else 0
    maker = Requantisers(entry(MODE_THRESHOLD, 0, steps=3), {0: steps}, 0, 255, 0)
    assert (compare_requantisers(maker, ROWS, ROWS, wanted) is None) == (off == 0)
    real = Requantisers(entry(MODE_FP32, np.float32(0.05)), {}, 0, 255, off)
    assert (compare_requantisers(real, ROWS, ROWS, wanted) is None) == (off == 0)


def test_a_clamp_that_no_input_shows_is_found() -> None:
    """Clamped at the greatest result of the two inputs that are compared; other inputs give greater ones."""
    scale = np.full(M, 2e-4, np.float32)
    assert verify_programs([program(ws=scale)], model(ws=scale), HOST).as_json()["functions"] == M
    p = program(ws=scale)
    (vreq,) = [i for i in p.cores[0].queues[Queue.CX] if i.op == "VREQ"]
    reference = Reference(model(ws=scale))
    vreq.fields["hi"] = max(int(reference.run(f)["yq"].max()) for _, f in made_inputs(reference, 2))
    report = verify_programs([p], model(ws=scale), HOST, frames=2)
    (row,) = report.failures()
    assert row.accumulators is not None and row.accumulators.passed
    assert "another function than the model's makes it; channel" in row.failure() and row.functions == 0


def test_functions_of_a_real_bundle() -> None:
    """Every channel of every layer of the example, and its addition, over all operands."""
    graph = digits()
    programs = [read_device(data) for data in make_bundle("u280x2")[0]]
    host = {s.name: s.model for s in graph.host_segments}
    report = verify_programs(programs, graph.model, host, frames=2)
    found = {t.tensor: t.functions for t in report.tensors if t.functions}
    assert sorted(found.values()) == [1, 10, 16, 32, 32, 32] and report.passed
    # One step of the multiplier of the addition changes a few of the 65,536 pairs.
    core = next(c for p in programs for c in p.cores if "/add#0/table0" in c.symbols)
    at = core.symbols["/add#0/table0"][0]
    before = core.constants[at : at + 32]
    raw = bytearray(core.constants)
    raw[at + 8] ^= 1
    core.constants = bytes(raw)
    for i in core.queues[Queue.CTL]:
        if i.op == "CRC":
            i.fields["expect"] = zlib.crc32(core.constants)
    tables = [binary_table(0, bytes(e), True, True, 0, 255) for e in (before, raw[at : at + 32])]
    report = verify_programs(programs, graph.model, host, frames=2)
    assert report.passed == bool(np.array_equal(*tables))
    assert not report.passed
