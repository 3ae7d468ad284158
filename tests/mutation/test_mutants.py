"""Broken binaries do not pass: seeded mutants of the shipped example's binaries, counted by judge and kind."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from compiler.isa.container import read_device, write_device
from compiler.schedule import schedule
from device_db import load_cluster
from tests.bundles import digits, make_bundle
from tests.mutation.judges import JUDGES, Bench, Verdict
from tests.mutation.mutants import KINDS, LOOSENING, Kind
from tests.schedule.toy import SMALL, Toy

FAST, MANY = 112, 1200


@cache
def bench(name: str) -> Bench:
    """ "sliced": layers cut in two over three cores of two devices; else the planner's own bundle for that cluster."""
    graph = digits()
    if name == "sliced":
        cores = [("u280-0", "SLR0"), ("u280-0", "SLR1"), ("u280-1", "SLR0")]
        programs = schedule(graph, Toy(graph, SMALL, cores, pm=2).plan(), load_cluster("u280x2"))
        files: tuple[bytes, ...] = tuple(write_device(p) for p in programs)
    else:
        files, _ = make_bundle(name)
    return Bench([read_device(f) for f in files], graph.model, {s.name: s.model for s in graph.host_segments})


def run(
    name: str, seeds: range, kinds: tuple[Kind, ...], orders: tuple[int | None, ...], out: pytest.CaptureFixture[str]
) -> list[Verdict]:
    """Judges the mutants, prints the counts, and gives the survivors; each must have every accumulator equal."""
    every = {v.digest: v for v in (bench(name).judge(seed, kinds, orders) for seed in seeds)}
    judged = list(every.values())  # the same mutant twice counts once
    survivors = [v for v in judged if v.judge == "survivor"]
    count = Counter((v.kind, v.judge) for v in judged)
    with out.disabled():
        print(f"\n{len(judged)} mutants of digits, {name}\n{'':20}" + "".join(f"{j:>11}" for j in JUDGES))
        for kind in dict.fromkeys(k.__name__ for k in kinds):
            print(f"{kind:20}" + "".join(f"{count[kind, j]:11}" for j in JUDGES))
        print(f"{'all':20}" + "".join(f"{sum(v.judge == j for v in judged):11}" for j in JUDGES))
        for v in survivors:
            print(f"survivor: {v.what}{'' if v.equal else ' (other accumulators)'}")
    assert all(v.equal for v in survivors)
    return survivors


def test_a_hundred_mutants_are_caught(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(run("sliced", range(FAST), KINDS, (None,), capsys)) <= FAST // 100


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sliced", "u280x2"])
def test_a_thousand_mutants_are_caught(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(run(name, range(FAST, FAST + MANY), KINDS, (None,), capsys)) <= MANY // 100


def test_a_looser_program_is_caught_or_right_in_every_order(capsys: pytest.CaptureFixture[str]) -> None:
    run("sliced", range(3000, 3030), LOOSENING, (None, 0, 1, 2), capsys)


def test_the_executor_alone_is_a_judge_too() -> None:
    """Without the checker before it, the executor ends every mutant in a verdict, and lets none through that computes
    something else. What it cannot see is what makes no difference to any tensor (a debug index, a clamp that no value
    reaches, two loads in another order): the checker's and the reader's matter."""
    judged = [bench("sliced").judge(seed, checker=False) for seed in range(5000, 5096)]
    by_judge = Counter(v.judge for v in judged)
    assert all(v.equal for v in judged if v.judge == "survivor"), [v for v in judged if v.judge == "survivor"]
    assert by_judge["machine"] + by_judge["comparison"] >= 0.4 * len(judged), by_judge
