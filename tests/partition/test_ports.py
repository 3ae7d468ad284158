"""Memory ports: every core of every board reaches a bank over wires that exist."""

from __future__ import annotations

import pytest

from compiler.partition.ports import assign_ports, boundaries
from device_db import board_names, load_board
from device_db.topology import SLL_STREAM_WIRES, memory_wires


@pytest.mark.parametrize("name", board_names())
@pytest.mark.parametrize("each", [1, 2])
def test_wires_and_widths(name: str, each: int) -> None:
    board = load_board(name)
    dies = [d for d in range(len(board.dies)) for _ in range(each)]
    ports = assign_ports(board, dies, board.dies[0].clock_khz)
    assert ports is not None
    wires = [SLL_STREAM_WIRES] * len(board.sll_wires)
    for die, p in zip(dies, ports, strict=True):
        bank = board.banks[p.bank]
        assert 32 <= p.bits <= bank.port_bits
        assert p.sharers == sum(1 for q in ports if q.bank == p.bank)
        for i in boundaries(die, bank.die):
            wires[i] += memory_wires(p.bits)
    assert all(used <= have for used, have in zip(wires, board.sll_wires, strict=True))


def test_each_core_of_a_u280_has_its_own_bank() -> None:
    ports = assign_ports(load_board("u280"), [0, 1, 2], 300_000)
    assert ports is not None
    assert len({p.bank for p in ports}) == 3


def test_cores_that_must_share_say_so() -> None:
    ports = assign_ports(load_board("pynq-z2"), [0, 0], 100_000)
    assert ports is not None
    assert [p.sharers for p in ports] == [2, 2]
