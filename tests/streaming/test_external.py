"""Weights in DRAM: exact on any dies, at the pace that the banks allow, judged, refused where they do not fit."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import onnx
import pytest

from compiler.executor.verify import verify_programs
from compiler.export.finn import finn_files
from compiler.export.network import network_files
from compiler.frontend import ImportOptions, load_model
from compiler.frontend.origin import finn_front
from compiler.ir.graph import Conv, Graph
from compiler.isa.check import check_programs
from compiler.isa.container import read_device, write_device
from compiler.isa.program import DeviceProgram, Instruction
from compiler.isa.stream import flow, whole
from compiler.isa.stream.network import boundless, build
from compiler.isa.stream.table import DRAM
from compiler.ops.stream.assemble import assemble
from compiler.ops.stream.lower import Option, legal_folds
from compiler.ops.stream.netlists import Seat
from compiler.ops.stream.programs import programs_of
from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.finn.read import anchors_from, folds_from
from compiler.partition.measured import first_fold
from compiler.partition.options import PartitionOptions
from compiler.partition.stream.external import Order, read_at_least
from compiler.partition.stream.problem import Problem, amounts, make_problem
from compiler.partition.stream.reading import positions
from compiler.plan.io import parse_plan, write_plan
from compiler.plan.model import Plan
from compiler.schedule import schedule
from compiler.schedule.program import aliases_of
from compiler.schedule.stream import _fill
from compiler.simulator import host_tasks, simulate
from device_db import load_cluster
from device_db.errors import FvcError
from device_db.model import Cluster, DieRef
from tests.bundles import digits
from tests.streaming.helpers import FAST_HOST
from tests.streaming.test_binaries import LOW_BIT
from tests.streaming.test_slices import LAYERS, quantised

EXTERNAL = PartitionOptions(style="streaming", host_ns=FAST_HOST, memory="external", time_limit_s=4.0)
LOW = Path(__file__).parents[1] / "data" / "qonnx" / "conv_w1a2.onnx"


@cache
def plan_of(devices: str, replicas: int = 1) -> Plan:
    return partition(digits(), load_cluster(devices), replace(EXTERNAL, replicas=replicas))


def binaries(graph: Graph, plan: Plan, cluster: Cluster) -> list[DeviceProgram]:
    return [read_device(write_device(p)) for p in schedule(graph, plan, cluster)]


def readers(found: list[DeviceProgram]) -> list[Instruction]:
    return [u for p in found if p.fabric is not None for u in p.fabric.units() if u.op == "MEM"]


def exact(graph: Graph, found: list[DeviceProgram], frames: int = 2) -> bool:
    host = {s.name: s.model for s in graph.host_segments}
    report = verify_programs(found, graph.model, host, frames=frames)
    return report.passed and report.mismatches == 0


def anyhow(graph: Graph, seed: int) -> list[DeviceProgram]:
    """Every layer with some fold on some die of two boards, all weights in DRAM."""
    cluster, draw = load_cluster("u250+u50"), random.Random(seed)
    seats = {}
    for n in graph.nodes:
        ref = draw.choice(cluster.dies)
        folds = legal_folds(graph, n, True, True)
        outside = [f for f in folds if f.memory == DRAM]
        seats[n.name] = Seat(DieRef(ref.device, ref.die), draw.choice(outside or folds))
    assembly = assemble(graph, cluster, seats)
    found = []
    for net, p in zip(assembly.nets, programs_of(graph, cluster, assembly, 10**9, {}, {}), strict=True):
        assert p.fabric is not None
        _fill(p.fabric, net)
        whole = replace(p, outputs={n: graph.root(n) for n in graph.outputs}, aliases=aliases_of(graph))
        found.append(read_device(write_device(whole)))
    return found


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_with_weights_in_dram_computes_the_same(name: str, tmp_path: Path) -> None:
    onnx.save(LAYERS[name], tmp_path / "layer.onnx")
    graph = load_model(tmp_path / "layer.onnx", ImportOptions())
    for seed in range(3):
        found = anyhow(graph, seed)
        assert len(readers(found)) == 1 and exact(graph, found)
        # Folds drawn at random may be over a die's budget, and their FIFOs are the least: all else must hold.
        assert {f.code for f in check_programs(found)} <= {"FVC344", "FVC345"}


@pytest.mark.parametrize("path", LOW_BIT, ids=lambda p: p.stem)
def test_low_bit_weights_are_packed_and_read_exactly(path: Path) -> None:
    graph = load_model(path, ImportOptions())
    found = anyhow(graph, 5)
    assert exact(graph, found)
    assert {f.code for f in check_programs(found)} <= {"FVC344", "FVC345"}


@pytest.mark.parametrize("case", [("u280", 1), ("u280x2", 2), ("zcu102", 1)], ids=str)
def test_a_plan_is_judged_and_runs_as_predicted(case: tuple[str, int]) -> None:
    devices, copies = case
    graph, cluster, plan = digits(), load_cluster(devices), plan_of(*case)
    assert check_plan(plan, graph, cluster) == [] and parse_plan(write_plan(plan)) == plan
    weighted = [n for n in graph.nodes if isinstance(n, Conv)]
    memory = {x.name: x.slices[0].memory for x in plan.layers}
    assert {memory[n.name] for n in weighted} == {"external"}
    # Every weight once for every position: eight bits each, and some words are no whole bytes' worth of them.
    least = sum(n.weight.size * n.y_shape[0] * n.y_shape[2] * n.y_shape[3] for n in weighted)
    read = sum(b["bytes_per_frame"] for b in plan.predicted["banks"].values())
    assert least <= read <= least * 1.01
    # No bank gives more than its rate.
    rates = {f"{d.name}/{b.name}": b.bytes_per_second * b.efficiency_percent // 100
             for d in cluster.devices for b in d.board.banks}  # fmt: skip
    for name, told in plan.predicted["banks"].items():
        assert told["bytes_per_frame"] * 10**9 <= rates[name] * plan.predicted["interval_ns"] * 1.001
    found = binaries(graph, plan, cluster)
    assert check_programs(found) == [] and exact(graph, found, 2 * copies)
    tasks = host_tasks({s.name: s.model for s in graph.host_segments}, FAST_HOST)
    played = simulate(found, None, tasks)
    assert abs(played.interval_ps / 1000 - plan.predicted["interval_ns"]) <= 0.01 * plan.predicted["interval_ns"]
    assert abs(played.latency_ps / 1000 - plan.predicted["latency_ns"]) <= 0.01 * plan.predicted["latency_ns"]


def test_played_frame_by_frame_the_banks_give_the_interval() -> None:
    graph, plan = digits(), plan_of("zcu102")
    tasks = host_tasks({s.name: s.model for s in graph.host_segments}, FAST_HOST)
    played = simulate(binaries(graph, plan, load_cluster("zcu102")), 8, tasks)
    assert plan.predicted["limiting"]["kind"] == "bank"
    assert abs(played.interval_ps / 1000 - plan.predicted["interval_ns"]) <= 0.02 * plan.predicted["interval_ns"]


def test_auto_takes_dram_where_the_chip_is_too_small(tmp_path: Path) -> None:
    """2,048 x 1,200 weights are 19.7 Mbit; a PYNQ-Z2 has 4.9 Mbit of block memory (DS190), a U280 far more."""
    onnx.save(quantised("QLinearMatMul", (1, 1, 2048), (2048, 1200), 0), tmp_path / "wide.onnx")
    graph = load_model(tmp_path / "wide.onnx", ImportOptions())
    options = replace(EXTERNAL, memory="auto")
    small = partition(graph, load_cluster("pynq-z2"), options)
    assert [x.slices[0].memory for x in small.layers if x.name == "layer"] == ["external"]
    assert any("DRAM" in note for note in small.solver.notes)
    assert exact(graph, binaries(graph, small, load_cluster("pynq-z2")))
    large = partition(graph, load_cluster("u280"), options)
    assert "external" not in {s.memory for x in large.layers for s in x.slices}
    with pytest.raises(FvcError) as caught:
        partition(graph, load_cluster("pynq-z2"), replace(EXTERNAL, memory="bram"))
    assert caught.value.code == "FVC203"


def banked(devices: str, **changes: object) -> Cluster:
    """A cluster whose banks are changed; `banks` replaces them all."""
    cluster = load_cluster(devices)
    out = []
    for d in cluster.devices:
        banks = changes["banks"] if "banks" in changes else tuple(replace(b, **changes) for b in d.board.banks)
        out.append(replace(d, board=replace(d.board, banks=banks)))
    return replace(cluster, devices=tuple(out))


@pytest.mark.parametrize("changes", [{"banks": ()}, {"capacity_bytes": 100}], ids=["no bank", "small banks"])
def test_boards_without_room_for_weights_are_refused(changes: dict) -> None:
    with pytest.raises(FvcError) as caught:
        partition(digits(), banked("u280", **changes), EXTERNAL)
    assert (caught.value.code, caught.value.exit_code) == ("FVC208", 1)
    assert caught.value.help


def test_a_slower_bank_makes_a_slower_plan() -> None:
    slow = partition(digits(), banked("zcu102", bytes_per_second=1_000_000_000), EXTERNAL)
    assert slow.predicted["interval_ns"] > 2 * plan_of("zcu102").predicted["interval_ns"]
    assert slow.predicted["limiting"]["kind"] == "bank"


def test_plans_that_say_something_else_of_memory_are_found() -> None:
    plan, cluster = plan_of("u280"), load_cluster("u280")
    document = json.loads(write_plan(plan))
    name = next(iter(document["predicted"]["banks"]))
    document["predicted"]["banks"][name]["bytes_per_frame"] += 1
    assert check_plan(parse_plan(json.dumps(document)), digits(), cluster)
    document = json.loads(write_plan(plan))
    at = next(e for e in document["engines"] if e["parameters"]["memory"] == "external")
    at["parameters"]["memory"] = "bram"
    assert check_plan(parse_plan(json.dumps(document)), digits(), cluster)


def broken(change: str) -> list[DeviceProgram]:
    found = binaries(digits(), plan_of("u280"), load_cluster("u280"))
    fabric = found[0].fabric
    assert fabric is not None
    first, second = readers(found)[:2]
    if change == "bank":
        first.fields["bank"] = len(fabric.banks)
    elif change == "capacity":
        first.fields["address"] = fabric.banks[first.fields["bank"]].capacity_bytes
    elif change == "overlap":
        second.fields |= {"bank": first.fields["bank"], "address": first.fields["address"]}
    elif change == "die":
        first.fields["die"] = (first.fields["die"] + 1) % len(fabric.dies)
    elif change == "turns":
        first.fields["turns"], first.fields["words"] = 1, first.fields["turns"] * first.fields["words"]
    elif change == "rate":
        fabric.banks[0] = replace(fabric.banks[0], bytes_per_second=0)
    else:
        fabric.banks.clear()
    return found


@pytest.mark.parametrize("change", ["bank", "capacity", "overlap", "die", "turns", "rate", "none"])
def test_netlists_that_read_memory_wrongly_are_found(change: str) -> None:
    assert "FVC348" in {f.code for f in check_programs(broken(change))}


def test_weights_upon_others_are_read_as_they_lie() -> None:
    """The executor holds memory, not the checker's word for it."""
    found = broken("overlap")
    host = {s.name: s.model for s in digits().host_segments}
    assert not verify_programs(found, digits().model, host, frames=2).passed


def test_finn_files_name_memory_and_come_back(tmp_path: Path) -> None:
    graph, cluster, front = load_model(LOW), load_cluster("u280x2"), finn_front(LOW)
    options = PartitionOptions(style="streaming", host_ns=FAST_HOST, memory="external")
    plan = partition(graph, cluster, options)
    for name, content in finn_files(graph, plan, cluster, front).items():
        (tmp_path / Path(name).name).write_bytes(content)
    folding = json.loads((tmp_path / "folding_config.json").read_text())
    floor = json.loads((tmp_path / "floorplan.json").read_text())
    matrix = [k for k in folding if k.startswith(("MVAU", "VVAU")) and "mem_mode" in folding[k]]
    outside = [k for k in matrix if folding[k]["mem_mode"] == "external"]
    assert outside and all(re.fullmatch(r"HBM\[\d+:\d+\]|DDR\[\d+\]", floor[k]["mem_port"]) for k in outside)
    assert all(len(folding[k]["inFIFODepths"]) == 2 for k in outside)
    assert not any(floor[k]["mem_port"] for k in floor if k not in ("Defaults", *outside))
    folds, told = folds_from(graph, tmp_path / "folding_config.json", front or 0)
    anchors, more = anchors_from(graph, cluster, tmp_path / "floorplan.json", front or 0)
    assert told == more == []
    again = partition(graph, cluster, replace(options, memory="auto", folds=folds, anchors=anchors))
    assert again.engines == plan.engines


def test_connectivity_has_a_port_for_every_reader() -> None:
    graph, cluster = digits(), load_cluster("u280x2")
    plan = partition(graph, cluster, replace(EXTERNAL, anchors=(("/conv1", "u280-0"), ("/conv3", "u280-1"))))
    found = binaries(graph, plan, cluster)
    files = network_files(graph, plan, cluster, found)
    for p in found:
        text = files[f"export/vitis/{p.name}.cfg"].decode()
        ports = re.findall(r"^sp=(\w+)\.m_axi_gmem0:(?:HBM\[\d+:\d+\]|DDR\[\d+\])$", text, re.M)
        assert len(ports) == len(set(ports)) == len(readers([p]))
        assert all(f"nk={k}:1:{k}" in text and f"stream_connect={k}.m_axis_0:" in text for k in ports)


def test_a_measured_layer_may_read_its_weights_from_dram() -> None:
    """A fold with external weights can be given, and measurements of it are taken."""
    graph, cluster = digits(), load_cluster("zcu102")
    layer = graph.nodes[0].name
    free = plan_of("zcu102")
    mine = next(e for e in free.engines if e.id == free.layers[0].slices[0].engine)
    fold = (layer, mine.fold["pe"], mine.fold["simd"], "external", mine.parameters["variant"])
    options = replace(EXTERNAL, folds=(fold,))
    plan = partition(graph, cluster, options)
    engine = next(e for e in plan.engines if e.id == plan.layers[0].slices[0].engine)
    assert engine.parameters["memory"] == "external" and first_fold(graph, graph.nodes[0], fold).memory == DRAM


def test_layers_of_few_positions_leave_the_chip_first() -> None:
    """Each layer reads its weights once a position; four fifths of the banks' bursts are counted on."""
    graph, cluster = digits(), load_cluster("zcu102")
    order = Order(graph, cluster, 1)
    by_name = {n.name: n for n in graph.nodes if isinstance(n, Conv)}
    turns = [positions(by_name[name]) for name in order.layers]
    assert turns == sorted(turns) and turns[0] == 1 and set(order.layers) == set(by_name)
    assert order.bits == [8 * by_name[name].weight.size * t for name, t in zip(order.layers, turns, strict=True)]
    rate = sum(b.bytes_per_second * b.efficiency_percent // 100 for b in cluster.devices[0].board.banks)
    first_two = -(-sum(order.bits[:2]) * 10**12 * 100 // (8 * 80 * rate))  # four fifths of what all banks read
    assert order.read_in(first_two + 1) >= 2 > order.read_in(first_two - first_two // 50)
    assert order.fewest(lambda layers: fits_with(layers, order.first(3))) == 3


def fits_with(layers: frozenset[str], needed: frozenset[str]) -> Problem:
    """A problem that fits if these layers are among those whose weights may leave."""
    one = make_problem(digits(), load_cluster("zcu102"), EXTERNAL, 1)
    return one if needed <= layers else replace(one, budgets=[(1, 1, 1, 0, 1)])


@pytest.mark.parametrize("share", [1, pytest.param(30, marks=pytest.mark.slow), 1000])
def test_readers_solved_together_with_their_units_start_when_they_do_by_turns(
    share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every firing of two frames, with full FIFOs and with none that fills, at banks of any speed."""
    graph = digits()
    found = anyhow(graph, 3)
    for p in found:
        assert p.fabric is not None
        p.fabric.banks[:] = [replace(b, bytes_per_second=b.bytes_per_second // share) for b in p.fabric.banks]
    seen = []
    monkeypatch.setattr(whole.Whole, "run", lambda self: None)
    for rounds in (flow.ROUNDS, 0):
        monkeypatch.setattr(flow, "ROUNDS", rounds)
        for unbounded in (set(), boundless(found)):
            net = build(found, (), unbounded).network
            net.play(1)
            seen.append([a.starts[0].tolist() for a in net.actors])
            net.play(1)
            seen.append([a.starts[1].tolist() for a in net.actors])
    assert seen[:4] == seen[4:]


def test_the_bound_counts_what_must_be_read() -> None:
    """Against every choice of a few options a layer on dies of random size: none beats the bound, which is above the
    one without reading where the chip is too small, and meets the best choice where there is but one."""
    everything = [n.name for n in digits().nodes]
    p = make_problem(
        digits(), load_cluster("zcu102"), replace(EXTERNAL, memory="auto"), 1, external=frozenset(everything)
    )
    higher = 0
    for seed in range(12):
        rng = random.Random(seed)
        every = []
        for own in p.every:
            outside = [o for o in own if o.fold.memory == DRAM]
            some = [*rng.sample(own, min(3, len(own))), *rng.sample(outside, min(2, len(outside)))]
            every.append(tuple(some) if outside else own[:1])
        rate = rng.choice([10**7, 10**8, 10**9])
        chosen = [rng.choice(own) for own in every]
        budget = tuple(sum(amounts(o)[r] for o in chosen) for r in range(5))
        few = replace(p, every=every, options=every, budgets=[budget], devices=["a", "b"])  # no converters counted
        best = min(t for choice in product(*every) if (t := least_ps(few, choice, rate, budget)) is not None)
        bound = read_at_least(few, rate, 1, 4 * best)
        assert bound <= best
        assert bound <= read_at_least(replace(few, devices=["a"]), rate, 1, 4 * best)
        higher += bound > read_at_least(few, 10**15, 1, 4 * best) * 1.01
        alone = replace(few, every=[(o,) for o in chosen])
        known = least_ps(alone, chosen, rate, budget)
        assert known is not None and known * 0.99 <= max(read_at_least(alone, rate, 1, 2 * known), 1) <= known
    assert higher > 3


def least_ps(p: Problem, choice: Sequence[Option], rate: int, budget: tuple[int, ...]) -> int | None:
    """The interval of a choice of options: the slowest, or all that is read; None where it does not fit."""
    if any(sum(amounts(o)[r] for o in choice) > have for r, have in enumerate(budget)):
        return None
    read = sum(
        n.weight.size * positions(n)
        for n, o in zip(p.nodes, choice, strict=True)
        if isinstance(n, Conv) and o.fold.memory == DRAM
    )
    return max(max(o.cycles for o in choice) * p.cycle(), read * 10**12 // rate)
