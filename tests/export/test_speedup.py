"""Speed-ups of layers against sums by hand: what is more than linear, and the reason where it is not."""

from __future__ import annotations

from compiler.export.speedup import HEAD, cells, speedups
from compiler.isa.program import DebugRow, DeviceProgram, Instruction
from tests.export.test_roofline import mac
from tests.simulator.programs import core, device, engine, load

SLOW = 10**9  # bank: a byte a cycle


def board(rank: int, *instructions: Instruction, cycles: int, memory: str = "stream") -> DeviceProgram:
    """One slice of layer "a" on engine `rank`, at 1 GHz with a bank of a byte a cycle."""
    roles = {"LD": "weights", "MAC": "compute"}
    rows = [DebugRow("a", f"a#{rank}", "", (), role) for role in roles.values()]
    listed = [Instruction(i.op, i.queue, i.fields, debug=list(roles).index(i.op), flags=i.flags) for i in instructions]
    one = core(0, *listed, spec=engine(rank, rate=SLOW), debug=rows)
    one.folding.append(
        {"layer": "a", "op": "QLinearConv", "task": f"a#{rank}", "memory": memory, "cycles": cycles}
    )  # fmt: skip
    return device(one)


def test_weights_loaded_again_and_again_make_it_super_linear() -> None:
    """One board loads the same 640 bytes four times, two boards 640 bytes each: 2,560 to 640 cycles."""
    one = [board(0, *[load(640)] * 4, mac(100), cycles=2600)]
    now = [board(k, load(640), mac(50), cycles=650) for k in range(2)]
    (row,) = speedups(one, now)
    assert row.engines == 2 and row.permille == 4000 and row.super_linear
    assert (row.one_limit, row.limit) == ("memory", "memory")
    assert "loads the weights 4.0 times, a slice 1.0 times" in row.reason
    assert cells(row)[4] == "4.00 (super-linear)" and len(cells(row)) == len(HEAD)


def test_weights_loaded_once_are_shared_out() -> None:
    one = [board(0, load(6400), mac(100), cycles=6500)]
    now = [board(k, load(3200), mac(50), cycles=3300) for k in range(2)]
    (row,) = speedups(one, now)
    assert not row.super_linear and row.permille == 1969
    assert "loads each weight once already" in row.reason and "2-fold at most" in row.reason


def test_weights_that_come_to_stay_on_chip() -> None:
    one = [board(0, load(6400), mac(100), cycles=6500)]
    (row,) = speedups(one, [board(k, mac(50), cycles=100, memory="resident") for k in range(2)])
    assert row.super_linear and "stay on chip" in row.reason


def test_the_arrays_work_is_shared_out() -> None:
    """1,000 cycles on one board; halves, and then memory is what is left."""
    one = [board(0, load(64), mac(1000), cycles=1100)]
    (row,) = speedups(one, [board(k, load(64), mac(500), cycles=600) for k in range(2)])
    assert not row.super_linear and "the array's work on one board" in row.reason


def test_a_layer_that_is_not_cut() -> None:
    one = [board(0, load(64), mac(1000), cycles=1100)]
    (row,) = speedups(one, one)
    assert row.engines == 1 and row.permille == 1000 and not row.super_linear
    assert row.reason == "not cut: on one engine, bound by compute"


def test_layers_that_one_side_lacks_are_left_out() -> None:
    assert speedups([board(0, mac(10), cycles=30)], [device(core(0))]) == []
