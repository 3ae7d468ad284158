"""Tiled engine estimates: against AMD's table for an engine of the same size, and their monotonicity."""

from __future__ import annotations

import dataclasses

import pytest

from cost_models.clock import TABLE, reachable_khz
from cost_models.economics import economics
from cost_models.tiled import engine_resources, mac_array_dsp, weight_memory
from device_db import load_board


def test_engine_of_2048_macs_is_near_the_dpu_b4096() -> None:
    """AMD PG338: DPUCZDX8G B4096 (2,048 MACs) takes 53,540 LUT and 105,008 FF."""
    r = engine_resources(64, 32, 1, 1, 1, 1, 64, 64, wgt_memory="bram")
    assert r.lut == pytest.approx(53_540, rel=0.1)
    assert r.ff == pytest.approx(105_008, rel=0.1)


def test_products_share_dsp_slices() -> None:
    assert mac_array_dsp(64, 64, 1) == 4096
    assert mac_array_dsp(64, 64, 2) == 2048
    assert mac_array_dsp(63, 7, 2) == 32 * 7
    assert mac_array_dsp(64, 64, 3) == 64 * 22


def test_weight_memory_feeds_the_whole_array() -> None:
    # 32 x 32 bytes a cycle are 8,192 bits: 228 RAMB18 of 36 bits, or 114 URAM of 72.
    assert weight_memory(32, 32, 256 << 10, "bram").bram18 == 228
    assert weight_memory(32, 32, 256 << 10, "uram").uram == 114
    # LUTRAM: 2 Mb at 448 bits for eight LUTs.
    assert weight_memory(32, 32, 256 << 10, "lutram").lut == pytest.approx(2**21 / 448 * 8, rel=0.001)
    assert weight_memory(32, 32, 256 << 10, has_uram=False).uram == 0


@pytest.mark.parametrize("name", ["tm", "tn", "act_bytes", "acc_bytes", "tab_bytes", "ld_bytes_per_cycle"])
def test_more_never_costs_less(name: str) -> None:
    base = {"tm": 16, "tn": 16, "act_bytes": 65536, "wgt_bytes": 65536, "acc_bytes": 65536, "tab_bytes": 8192}
    base |= {"ld_bytes_per_cycle": 32, "st_bytes_per_cycle": 32}
    small = dataclasses.astuple(engine_resources(**base, wgt_memory="bram"))
    large = dataclasses.astuple(engine_resources(**(base | {name: base[name] * 2}), wgt_memory="bram"))
    assert all(a <= b for a, b in zip(small, large, strict=True))
    assert small != large


def test_an_engine_of_4096_macs_fits_a_u280_die() -> None:
    r = engine_resources(64, 64, 256 << 10, 256 << 10, 128 << 10, 32 << 10, 64, 64)
    usable = load_board("u280").dies[1].usable
    assert (usable.lut, usable.ff, usable.bram18, usable.uram, usable.dsp) >= (0, 0, 0, 0, 0)
    for field in ("lut", "ff", "bram18", "uram", "dsp"):
        assert getattr(r, field) <= getattr(usable, field), field


def test_clock_falls_with_utilisation_and_crossings() -> None:
    for family in TABLE:
        clocks = [reachable_khz(family, u)[0] for u in range(0, 101, 5)]
        assert clocks == sorted(clocks, reverse=True)
    assert reachable_khz("ultrascale+", 50)[0] > reachable_khz("ultrascale+", 50, 3)[0]
    assert all(step.source for steps in TABLE.values() for step in steps)


def test_economics_by_hand() -> None:
    # Two 100 W boards of 5,000 dollars at one frame a millisecond.
    e = economics([100, 100], [5_000, 5_000], 1_000_000_000)
    assert e.energy_mj_per_frame == pytest.approx(200.0)
    assert e.frames_per_second_per_kusd == pytest.approx(100.0)
    assert e.uncertainty_percent == 30
