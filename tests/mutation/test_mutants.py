"""Broken binaries do not pass: seeded mutants of the shipped example's binaries, counted by judge and kind."""

from __future__ import annotations

import zlib
from collections import Counter
from functools import cache

import pytest

from compiler.executor.verify import verify_programs
from compiler.isa.check import check_programs
from compiler.isa.container import read_device, write_device
from compiler.isa.table import MODE_FIXED, Queue
from compiler.partition import partition
from compiler.partition.options import PartitionOptions
from compiler.schedule import schedule
from device_db import load_cluster
from tests.bundles import digits, make_bundle
from tests.mutation import netlists
from tests.mutation.equivalent import same_results
from tests.mutation.judges import JUDGES, Bench, Verdict
from tests.mutation.mutants import KINDS, LOOSENING, Kind, Programs
from tests.schedule.toy import SMALL, Toy
from tests.streaming.helpers import SPREAD, binaries

FAST, MANY = 112, 1200


@cache
def bench(name: str) -> Bench:
    """ "sliced": layers cut in two over three cores of two devices; "shared": in three by channels over a chain of
    devices, each loading a share of the input; "streaming": netlists on three dies of two devices; else the planner's
    own bundle for that cluster."""
    graph = digits()
    if name == "sliced":
        cores = [("u280-0", "SLR0"), ("u280-0", "SLR1"), ("u280-1", "SLR0")]
        programs = schedule(graph, Toy(graph, SMALL, cores, pm=2).plan(), load_cluster("u280x2"))
        files: tuple[bytes, ...] = tuple(write_device(p) for p in programs)
    elif name == "shared":
        cluster = load_cluster("zcu102x3", topology="chain")
        options = PartitionOptions(objective="latency", force_split=(("Pm", 3),), xfer="always", time_limit_s=0.5)
        plan = partition(graph, cluster, options)
        assert sum(any(x.inputs for x in layer.xfer) for layer in plan.layers) >= 3
        files = tuple(write_device(p) for p in schedule(graph, plan, cluster))
    elif name == "streaming":
        files = binaries("u280x2", 3000, SPREAD)
    else:
        files, _ = make_bundle(name)
    return Bench(
        [read_device(f) for f in files],
        graph.model,
        {s.name: s.model for s in graph.host_segments},
        kinds=netlists.KINDS if name == "streaming" else KINDS,
    )


def run(
    name: str,
    seeds: range,
    kinds: tuple[Kind, ...] | None,
    orders: tuple[int | None, ...],
    out: pytest.CaptureFixture[str],
) -> list[Verdict]:
    """Judges the mutants, prints the counts, and gives the survivors; each must have every accumulator equal."""
    every = {v.digest: v for v in (bench(name).judge(seed, kinds, orders) for seed in seeds)}
    judged = list(every.values())  # the same mutant twice counts once
    survivors = [v for v in judged if v.judge == "survivor"]
    count = Counter((v.kind, v.judge) for v in judged)
    with out.disabled():
        print(f"\n{len(judged)} mutants of digits, {name}\n{'':20}" + "".join(f"{j:>11}" for j in JUDGES))
        for kind in dict.fromkeys(k.__name__ for k in kinds or bench(name).kinds):
            print(f"{kind:20}" + "".join(f"{count[kind, j]:11}" for j in JUDGES))
        print(f"{'all':20}" + "".join(f"{sum(v.judge == j for v in judged):11}" for j in JUDGES))
        for v in survivors:
            print(f"survivor: {v.what}{'' if v.equal else ' (other accumulators)'}")
    assert all(v.equal for v in survivors)
    return survivors


def test_a_hundred_mutants_are_caught(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(run("sliced", range(FAST), KINDS, (None,), capsys)) <= FAST // 100


def test_a_hundred_mutants_of_netlists_are_caught(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(run("streaming", range(FAST), None, (None,), capsys)) <= FAST // 100


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sliced", "shared", "u280x2", "pynq-z2x2", "streaming"])
def test_a_thousand_mutants_are_caught(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(run(name, range(FAST, FAST + MANY), None, (None,), capsys)) <= MANY // 100


def changed_constants(name: str, symbol: str, at: int, bit: int) -> tuple[Programs, Programs]:
    """The bundle and a copy with one bit of a symbol other and the CRC instruction made to agree."""
    original = bench(name).programs
    mutant = [read_device(write_device(p)) for p in original]
    core = next(c for p in mutant for c in p.cores if symbol in c.symbols)
    raw = bytearray(core.constants)
    raw[core.symbols[symbol][0] + at] ^= 1 << bit
    core.constants = bytes(raw)
    (crc,) = [i for i in core.queues[Queue.CTL] if i.op == "CRC"]
    crc.fields["expect"] = zlib.crc32(core.constants)
    return original, mutant


def test_a_weight_that_no_tensor_shows_is_caught_by_its_accumulators() -> None:
    """A bit of a weight of the first layer that is lost in requantising on all eight inputs."""
    original, mutant = changed_constants("u280x2", "/conv1#0/weights0", 15, 2)
    assert check_programs(mutant) == []
    judge = bench("u280x2")
    report = verify_programs(mutant, judge.model, judge.host, frames=judge.frames)
    (row,) = report.failures()
    assert row.mismatches == 0 and row.accumulators is not None and row.accumulators.mismatches > 0
    assert not same_results(original, mutant)


def test_trying_every_accumulator_agrees_with_the_proof() -> None:
    """Low and high bits of the offsets and multipliers of the channels with a fixed form: the comparison passes exactly
    those mutants whose entry gives the same results everywhere."""
    judge, verdicts = bench("u280x2"), Counter[tuple[bool, bool]]()
    core = next(c for p in judge.programs for c in p.cores if "/scores#0/table0" in c.symbols)
    entries = core.symbols["/scores#0/table0"][0] + 4 * 10
    fixed = [k for k in range(10) if core.constants[entries + 16 * k + 5] == MODE_FIXED]
    for channel in fixed:
        for byte, bit in ((8, 0), (8, 2), (2, 3), (0, 0)):
            at = 4 * 10 + 16 * channel + byte
            original, mutant = changed_constants("u280x2", "/scores#0/table0", at, bit)
            passed = verify_programs(mutant, judge.model, judge.host, frames=2).passed
            verdicts[same_results(original, mutant), passed] += 1
    assert len(fixed) > 5 and set(verdicts) == {(True, True), (False, False)}
    assert not same_results(*changed_constants("u280x2", "/scores#0/table0", 0, 0))  # a bias
    assert not same_results(judge.programs, judge.programs)  # nothing changed


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
