"""Tasks with shared weights, block by block, against times worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from compiler.partition.prediction.blocks import Blocks
from compiler.partition.prediction.recurrence import Core, Steps


def steps(count: int, store_all: bool) -> Steps:
    """Steps of a block each: its own share loaded in 10 cycles, data in 5, arithmetic 100, a store of 20 at the end."""
    store = [20 if store_all or k == count - 1 else 0 for k in range(count)]
    return Steps([10] * count, [5] * count, [0] * count, [100] * count, store, 100 * count, 2, [], [], 0, 0)


def test_a_block_waits_for_the_shares_of_others() -> None:
    core = Core(1_000_000)
    task = Blocks(steps(1, True), [0], core.ld, core.closed, [0, 0, None])
    task.advance()
    assert task.loaded == [10]  # before anything is known of its data
    task.follow(core)
    task.start(30, 0)
    assert not task.over  # data at 35
    task.arrived(0, 50)
    assert task.over and task.done == [150] and task.result() == (35, 170, 0)


def test_loads_run_two_blocks_ahead_and_wait_for_what_is_to_be_sent_on() -> None:
    core = Core(1_000_000)
    task = Blocks(steps(4, False), range(4), core.ld, core.closed, [0, 0, None, None, None, None])
    task.follow(core)
    task.start(0, 0)
    assert task.loaded == [10, 25]  # the third waits for the arithmetic with the first
    task.arrived(0, 40)  # arithmetic 40 to 140
    assert task.loaded == [10, 25] and task.done == [140]  # and until the first has been passed on
    task.sent(0, 160)
    assert task.loaded == [10, 25, 170]
    task.arrived(1, 60)  # 140 to 240
    task.arrived(2, 100)  # 240 to 340: its own share and data are there at 175
    task.sent(1, 200)
    assert task.loaded == [10, 25, 170, 250] and task.done == [140, 240, 340]
    task.arrived(3, 400)
    assert task.over and task.result() == (255, 520, 0)
    behind = task.finish()
    assert (behind.ld, behind.cx, behind.st, behind.closed) == (255, 500, 520, 340)


def test_the_next_task_begins_to_load_when_this_one_has() -> None:
    first = Blocks(steps(2, False), [0, 1], 0, 0, [0, 0, 0, 0])
    first.follow(Core(1_000_000))
    first.start(0, 0)
    assert first.ahead is None  # the load group after the next waits for the arithmetic with the first
    first.arrived(0, 0)
    assert first.ahead == (30, 115)  # LD is free at 30; the first block's arithmetic ends at 115
    second = Blocks(steps(1, True), [0], *first.ahead, [0, 0, None])
    second.advance()
    assert second.loaded == [125]


def test_parts_of_inputs_are_loaded_when_data_and_slot_are_there() -> None:
    core = Core(1_000_000)
    task = Blocks(steps(3, False), range(3), core.ld, core.closed, [None, None, None, None, None], inputs=True)
    task.follow(core)
    task.start(30, 0)
    assert task.loaded == []  # the task before still sends from these bytes
    task.sent(-2, 40)
    task.sent(-1, 40)
    assert task.loaded == [
        45,
        60,
    ]  # 5 cycles behind 40; weights of the next, then its data; the third waits for a group
    task.arrived(0, 70)  # arithmetic 70 to 170
    assert task.loaded == [45, 60] and not task.over  # its weights from 170 to 180, then until the first is sent
    task.sent(0, 200)
    assert task.loaded == [45, 60, 205]
    task.arrived(1, 100)  # 170 to 270
    task.arrived(2, 190)  # 270 to 370, stored until 390
    assert task.over and task.result() == (205, 390, 0)


def test_beside_others_a_store_waits_while_it_moves_but_not_while_it_is_set_up() -> None:
    """A store of 32 cycles of set-up and 60 at the whole bank beside loads of a third of it, for 40 cycles or for ever:
    it ends 60 * 3/2 after its set-up in both, since loads that want less than half get it."""
    one = Steps([0], [5], [0], [10], [92], 10, 2, [0.0], [1.0], 0, 60)
    core = Core(1_000_000)
    assert core.copy().task(one, 0, 0) == (5, 107, 0)
    third = 1 / 3
    assert core.copy().task(one, 0, 0, ((), [(0, 40, third, 1.0)])) == (5, 107, 0)  # over before anything moves
    assert core.copy().task(one, 0, 0, ((), [(0, 10**6, third, 1.0)])) == (5, 47 + 90, 0)


def test_the_first_weights_of_a_task_are_not_slowed_by_its_own_stores() -> None:
    """Three tiles; loads and stores of 64 bytes a cycle on a bank that gives 64. The first load ends at 1100, its store
    begins at 1110; from then on the bank is shared: the second load ends at 1290, its store begins at 1310 behind the
    first; the third load ends at 1490, the second store at 1500, the third, alone again, at 1600."""
    line = SimpleNamespace(
        ld_ahead=(1000, 0, 0), ld_main=(100, 100, 100), cx_head=(0, 0, 0), cx_tail=(10, 10, 10), st=(100, 100, 100),
        ld_bus_bytes=(64 * 1100, 6400, 6400), st_bus_bytes=(6400, 6400, 6400), cx_cycles=(10, 10, 10),
    )  # fmt: skip
    got = Steps.of(line, 64.0)
    assert got.ahead[0] == 1000
    assert Core(1_000_000).task(Steps.of(line, 1e9), 0, 0)[1] == 1410
    assert Core(1_000_000).task(got, 0, 0)[1] == pytest.approx(1600, abs=5)
