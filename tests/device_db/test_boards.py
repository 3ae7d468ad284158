"""The shipped boards: complete, sourced, and equal to the published platform table where that speaks of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from device_db import board_names, check_board_file, database_hash, describe_board, load_board
from device_db.boards import BOARDS
from device_db.errors import FvcError
from device_db.model import Resources
from device_db.schema import json_schema

PLATFORMS: dict[str, Any] = json.loads((Path(__file__).parent.parent / "data" / "finn_platforms.json").read_text())
ALVEO = ["u50", "u55c", "u200", "u250", "u280"]
WANTED = [*ALVEO, "vck5000", "v80", "zcu102", "zcu104", "kv260", "pynq-z2", "s10mx", "a10gx"]


def amounts(row: dict[str, int]) -> Resources:
    return Resources(row["LUT"], row["FF"], row["BRAM_18K"], row["URAM"], row["DSP"])


def test_the_database_has_the_promised_boards() -> None:
    assert set(WANTED) <= set(board_names())


@pytest.mark.parametrize("name", WANTED)
def test_every_number_has_a_source_and_every_die_something_to_use(name: str) -> None:
    assert check_board_file(BOARDS / f"{name}.toml") == []
    board = load_board(name)
    for die in board.dies:
        assert min(die.usable.lut, die.usable.ff, die.usable.bram18, die.usable.dsp) > 0
        assert die.usable.lut < die.raw.lut
    assert board.banks
    assert all(0 <= b.die < len(board.dies) for b in board.banks)
    described = describe_board(board)
    assert json.loads(json.dumps(described)) == described


@pytest.mark.parametrize("name", ALVEO)
def test_alveo_dies_equal_the_published_platforms(name: str) -> None:
    row, board = PLATFORMS["platforms"][name.upper()], load_board(name)
    assert board.part == row["part"]
    assert [d.raw for d in board.dies] == [amounts(r) for r in row["slr_resources"]]
    assert list(board.sll_wires) == [row["sll_count"][k][k + 1] for k in range(row["nslr"] - 1)]
    assert board.network_die is not None
    assert board.dies[board.network_die].name == row["qsfp_slr"]
    assert board.network_bits_per_second == row["eth_gbps"] * 10**9
    assert board.network_cost == amounts(PLATFORMS["infrastructure"]["ETH"])
    hbm_dies = {b.die for b in board.banks if b.kind.startswith("HBM")}
    assert hbm_dies == (set() if row["hbm_slr"] is None else {row["hbm_slr"]})
    assert set(row["ddr_slr"]) <= {b.die for b in board.banks if b.kind == "DDR4"}
    limits = PLATFORMS["default_limits"]
    p = board.dies[0].usable_percent
    assert [p.lut, p.ff, p.bram18, p.uram, p.dsp] == [round(100 * v) for v in limits.values()]


def test_controllers_are_charged_to_the_shell_of_their_die() -> None:
    hbm, ddr = (amounts(PLATFORMS["infrastructure"][k]) for k in ("HBM", "DDR"))
    assert [d.shell for d in load_board("u280").dies] == [hbm + ddr, ddr, Resources()]
    assert [d.shell for d in load_board("u55c").dies] == [hbm, Resources(), Resources()]
    assert [d.shell for d in load_board("u250").dies] == [ddr] * 4


def test_bandwidths_add_up_to_the_data_sheets() -> None:
    """Totals as the data sheets state them: DS963 460 GB/s HBM and 38 DDR, DS965 316, DS978 460, DS962 77."""

    def total(name: str, kind: str) -> int:
        return sum(b.bytes_per_second for b in load_board(name).banks if b.kind == kind)

    assert total("u280", "HBM2") == 460_000_000_000
    assert total("u280", "DDR4") == 38_400_000_000
    assert total("u50", "HBM2") == 316_000_000_000
    assert total("u55c", "HBM2") == 460_000_000_000
    assert total("u200", "DDR4") == total("u250", "DDR4") == 76_800_000_000
    assert sum(b.capacity_bytes for b in load_board("u280").banks if b.kind == "HBM2") == 8 << 30
    assert sum(b.capacity_bytes for b in load_board("u55c").banks) == 16 << 30


def test_unknown_board_names_the_closest() -> None:
    with pytest.raises(FvcError) as caught:
        load_board("u28O")
    assert caught.value.code == "FVC501"
    assert "u280" in caught.value.block()


def test_schemas_are_those_of_the_classes() -> None:
    for kind in ("board", "cluster"):
        committed = json.loads((BOARDS.parent / "schema" / f"{kind}.schema.json").read_text())
        assert committed == json.loads(json.dumps(json_schema(kind)))


def test_database_hash_depends_on_nothing_but_the_files() -> None:
    code = "from device_db import database_hash; print(database_hash())"
    for seed in ("0", "1"):
        env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(BOARDS.parent.parent)}
        out = subprocess.run([sys.executable, "-c", code], env=env, cwd="/", capture_output=True, text=True, check=True)
        assert out.stdout.strip() == database_hash()


U280 = (BOARDS / "u280.toml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "code", "says", "line_of"),
    [
        ("power_w = 100", "power_w = -1", "FVC506", "power_w", "power_w"),
        ("power_w = 100\n", "", "FVC506", "power_w: is missing", None),
        ("power_w = 100", "power_w = 100\nwatts = 3", "FVC506", "watts: is not a known field", "watts"),
        ("power_w = 100", 'power_w = "100"', "FVC506", "power_w", "power_w"),
        ("power_w = 100", "power_w = 100.5", "FVC506", "power_w", "power_w"),
        ("sll_wires = [5000, 5000]", "sll_wires = [5000]", "FVC506", "3 dies have 2 boundaries", "sll_wires"),
        ('name = "DDR1"', 'name = "DDR0"', "FVC506", "'DDR0' is there twice", None),
        ('name = "SLR1"', 'name = "SLR0"', "FVC506", "'SLR0' is there twice", None),
        ('power_w = "AMD', 'powr_w = "AMD', "FVC507", "power_w", "power_w"),
        ("shell = { lut = 0 }", "shell = { lut = 400000 }", "FVC506", "more than SLR2 has", None),
        ("efficiency_percent = 90", "efficiency_percent = 190", "FVC506", "efficiency_percent", "efficiency_percent"),
    ],
)
def test_a_broken_board_file_is_told_by_line(
    tmp_path: Path, old: str, new: str, code: str, says: str, line_of: str | None
) -> None:
    text = U280.replace(old, new, 1)
    assert text != U280
    file = tmp_path / "board.toml"
    file.write_text(text)
    problems = check_board_file(file)
    assert any(p.code == code and says in p.message for p in problems), problems
    if line_of:
        lines = text.splitlines()
        assert any(lines[p.line - 1].startswith(line_of) for p in problems if p.line)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "name"),
        (b"\xff\xfe", "not UTF-8"),
        (b"name = ", r"board\.toml:1"),
        (b'name = "a"\nname = "b"\n', "line 2"),
        (b"a = " + b"[" * 5000, "nested|TOML"),
    ],
)
def test_files_that_are_no_boards(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "board.toml"
    file.write_bytes(content)
    try:
        text = " ".join(f"{p.code} {p.message}" for p in check_board_file(file))
    except FvcError as error:
        assert error.code == "FVC505"
        text = error.block()
    assert re.search(says, text), text
