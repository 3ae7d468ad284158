"""`fvc cost`: lines in, lines out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import fvc

# Zhang et al., FPGA 2015, AlexNet layer 1 on the uniform <64,7> design: 366,025 cycles.
ALEXNET_1 = {"B": 1, "M": 48, "N": 3, "R": 55, "C": 55, "K": 11, "Tm": 64, "Tn": 7, "Tr": 55, "Tc": 55}


def test_one_result_for_each_case_in_order(tmp_path: Path) -> None:
    small = ALEXNET_1 | {"R": 11}
    (tmp_path / "c.jsonl").write_text(f"{json.dumps(ALEXNET_1)}\n\n{json.dumps(small)}\n")
    found = fvc("cost", tmp_path / "c.jsonl", "--model", "superlip")
    assert found.code == 0, found.err
    first, second = (json.loads(line) for line in found.out.splitlines())
    assert first["cycles"] >= 11 * 11 * 55 * 55  # computing alone takes K*K*R*C
    assert second["model"] == "superlip"


@pytest.mark.parametrize(
    "line", ["[]", "{", '{"op": 3}', '{"x": 1}', "[" * 50_000, '{"Tm": 1, "Tm": 2}', '{"kind": [], "h": 1, "t": 1}']
)
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "c.jsonl").write_text(f"{json.dumps(ALEXNET_1)}\n{line}\n")
    found = fvc("cost", tmp_path / "c.jsonl")
    assert (found.code, found.out, found.error_code) == (2, "", "FVC520")
    assert "c.jsonl:2" in found.err


def test_a_missing_file() -> None:
    assert fvc("cost", "missing.jsonl").error_code == "FVC002"
