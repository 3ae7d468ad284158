"""Primitive durations against the sentences of docs/machine.md, worked by hand."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cost_models import primitives as p


def test_mac_channel_mode_counts_blocks_of_both_dimensions() -> None:
    # 64 outputs on 32 rows: 2; 48 inputs on 32 columns: 2; 3x3 taps; 14x14 results.
    assert p.mac_cycles(0, 64, 48, 1, 3, 3, 14, 14, 32, 32) == 2 * 2 * 9 * 196 + p.MAC_FILL_CYCLES


def test_mac_channel_mode_runs_groups_one_after_the_other() -> None:
    assert p.mac_cycles(0, 64, 16, 4, 1, 1, 7, 7, 32, 32) == 4 * 1 * 1 * 49 + p.MAC_FILL_CYCLES


def test_mac_window_mode_folds_taps_into_columns() -> None:
    # First layer: 3 x 7 x 7 = 147 taps on 64 columns: 3 instead of 49 passes.
    assert p.mac_cycles(1, 64, 3, 1, 7, 7, 10, 10, 64, 64) == 3 * 100 + p.MAC_FILL_CYCLES
    # Depthwise: rows take different groups.
    assert p.mac_cycles(1, 128, 1, 128, 3, 3, 10, 10, 64, 16) == 2 * 1 * 100 + p.MAC_FILL_CYCLES
    # Grouped with n > 1: groups times the plain count with m / groups.
    assert p.mac_cycles(1, 64, 8, 4, 3, 3, 5, 5, 16, 32) == 4 * (1 * 3 * 25) + p.MAC_FILL_CYCLES


def test_mac_cycles_takes_arrays() -> None:
    rows = np.array([1, 7, 14])
    got = p.mac_cycles(0, 64, 48, 1, 3, 3, rows, 14, 32, 32)  # type: ignore[arg-type]
    assert list(got) == [p.mac_cycles(0, 64, 48, 1, 3, 3, int(r), 14, 32, 32) for r in rows]  # type: ignore[call-overload]


def brute_force_runs(n2: int, n1: int, n0: int, s2: int, s1: int, s0: int, elem: int) -> list[tuple[int, int]]:
    """Walk the box in order and join every element to the run before it if it follows on."""
    runs: list[list[int]] = []
    for a, b, c in itertools.product(range(n2), range(n1), range(n0)):
        at = a * s2 + b * s1 + c * s0
        if runs and runs[-1][0] + runs[-1][1] == at:
            runs[-1][1] += elem
        else:
            runs.append([at, elem])
    return [(a, n) for a, n in runs]


@given(
    st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 40), st.integers(0, 20), st.integers(0, 8),
    st.sampled_from([1, 4]),
)  # fmt: skip
def test_runs_are_those_of_a_walk(n2: int, n1: int, n0: int, s2: int, s1: int, s0: int, elem: int) -> None:
    walked = brute_force_runs(n2, n1, n0, s2, s1, s0, elem)
    runs, size = p.contiguous_runs(n2, n1, n0, s2, s1, s0, elem)
    assert runs * size == n2 * n1 * n0 * elem == sum(n for _, n in walked)
    # Merging by whole dimensions never joins more than the walk does.
    assert runs >= len(walked)


def test_runs_merge_whole_dense_dimensions() -> None:
    assert p.contiguous_runs(3, 4, 5, 20, 5, 1, 1) == (1, 60)
    assert p.contiguous_runs(3, 4, 5, 100, 5, 1, 1) == (3, 20)
    assert p.contiguous_runs(3, 4, 5, 100, 10, 1, 1) == (12, 5)
    assert p.contiguous_runs(3, 4, 5, 100, 10, 2, 1) == (60, 1)
    assert p.contiguous_runs(1, 1, 5, 0, 0, 4, 4) == (1, 20)
    assert p.contiguous_runs(0, 4, 5, 20, 5, 1, 1) == (0, 0)


def test_dma_is_the_slower_of_port_and_bank() -> None:
    # 10 runs of 65 bytes: 2 beats of a 64-byte port each, 128 bytes of bank each.
    assert p.dma_port_cycles(10, 65, 64) == 20 + p.DMA_SETUP_CYCLES
    assert p.dma_bus_bytes(10, 65) == 1280
    assert p.dma_cycles(10, 65, 64, 10**12, 300_000) == 20 + p.DMA_SETUP_CYCLES
    # 1,280 bytes at 19.2 GB/s and 300 MHz are 64 bytes a cycle; at 6.4 GB/s a third of it.
    assert p.dma_cycles(10, 65, 64, 6_400_000_000, 300_000) == 60 + p.DMA_SETUP_CYCLES


def test_times_are_rounded_up_picoseconds() -> None:
    assert p.cycles_ps(3, 300_000) == 10_000
    assert p.cycles_ps(1, 300_000) == 3_334
    assert p.transfer_ps(125, 1_000_000_000) == 1_000_000
    assert p.message_ps(12_500, 100_000_000_000, 1_000) == 2_000_000


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True), min_size=1, max_size=8),
    st.lists(st.integers(50, 10_000), min_size=4, max_size=4),
    st.data(),
)
def test_shares_are_feasible_and_max_min_fair(flows: list[list[int]], caps: list[int], data: st.DataObject) -> None:
    demands = data.draw(st.lists(st.none() | st.integers(1, 5_000), min_size=len(flows), max_size=len(flows)))
    rates = p.max_min_shares(flows, caps, demands)
    used = [sum(r for r, f in zip(rates, flows, strict=True) if k in f) for k in range(4)]
    slack = len(flows)  # rates are whole numbers, rounded down, at least 1
    assert all(u <= c + slack for u, c in zip(used, caps, strict=True))
    for rate, flow, want in zip(rates, flows, demands, strict=True):
        if want is not None and rate >= want:
            assert rate == want
            continue
        # Max-min: some resource of the flow is full, and no flow on it is faster.
        assert any(
            used[k] >= caps[k] - slack * 2
            and all(r <= rate + slack for r, f in zip(rates, flows, strict=True) if k in f)
            for k in flow
        )


def test_ring_collectives_move_all_but_one_share() -> None:
    # 4 members, 1,000 bytes: 3 steps of 250 bytes at 8 Gb/s (1 ns a byte) and 100 ns.
    assert p.ring_all_gather_ps(4, 1_000, 8_000_000_000, 100) == 3 * (250_000 + 100_000)
    assert p.ring_reduce_scatter_ps(4, 250, 8_000_000_000, 100) == 3 * (250_000 + 100_000)
    assert p.ring_link_bytes(4, 1_000) == 750
    assert p.ring_all_gather_ps(1, 1_000, 8_000_000_000, 100) == 0
