"""Broken binaries do not pass: seeded mutants of the shipped example's binaries, counted by judge."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from compiler.frontend import ImportOptions, load_model
from compiler.isa.container import read_device, write_device
from compiler.schedule import schedule
from device_db import load_cluster
from tests.mutation.mutants import JUDGES, KINDS, LOOSENING, Bench, Kind
from tests.schedule.toy import SMALL, Toy

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def bench() -> Bench:
    options = ImportOptions(calibrate=EXAMPLES / "digits_calibration.npz", per_channel=True)
    graph = load_model(EXAMPLES / "digits.onnx", options)
    cores = [("u280-0", "SLR0"), ("u280-0", "SLR1"), ("u280-1", "SLR0")]
    programs = schedule(graph, Toy(graph, SMALL, cores, pm=2).plan(), load_cluster("u280x2"))
    programs = [read_device(write_device(p)) for p in programs]
    return Bench(programs, graph.model, {s.name: s.model for s in graph.host_segments})


def run(bench: Bench, seeds: range, kinds: tuple[Kind, ...], orders: tuple[int | None, ...], out: Any) -> list[str]:
    """Judges the mutants, prints the counts, and gives the survivors; each must have every accumulator equal."""
    judged = [bench.judge(seed, kinds, orders) for seed in seeds]
    by_judge = Counter(judge for judge, _, _ in judged)
    by_kind = Counter((what.split(":")[0].split(" ")[0], judge) for judge, what, _ in judged)
    survivors = [what for judge, what, _ in judged if judge == "survivor"]
    with out.disabled():
        print(f"\n{len(judged)} mutants: " + ", ".join(f"{j} {by_judge[j]}" for j in JUDGES))
        for kind in dict.fromkeys(k.__name__ for k in kinds):
            print(f"  {kind:20}" + ", ".join(f"{j} {by_kind[kind, j]}" for j in JUDGES if by_kind[kind, j]))
        for what in survivors:
            print(f"  survivor: {what}")
    different = [what for judge, what, equal in judged if judge == "survivor" and not equal]
    assert not different
    return survivors


def test_120_mutants_are_caught(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(run(bench, range(120), KINDS, (None,), capsys)) <= 1


@pytest.mark.slow
def test_1200_mutants_are_caught(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(run(bench, range(120, 1320), KINDS, (None,), capsys)) <= 12


def test_a_looser_program_is_caught_or_right_in_every_order(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    run(bench, range(30), LOOSENING, (None, 0, 1, 2), capsys)


def test_the_executor_alone_is_a_judge_too(bench: Bench) -> None:
    """Without the checker before it, the executor ends every mutant in a verdict, and lets none through that computes
    something else. What it cannot see is what makes no difference to any tensor (a debug index, a clamp that no value
    reaches, two loads in another order): the checker's and the reader's matter."""
    judged = [bench.judge(seed, checker=False) for seed in range(5000, 5120)]
    by_judge = Counter(judge for judge, _, _ in judged)
    assert all(equal for judge, _, equal in judged if judge == "survivor")
    assert by_judge["machine"] + by_judge["comparison"] >= 0.6 * len(judged), by_judge
    assert by_judge["survivor"] <= 0.2 * len(judged), by_judge
