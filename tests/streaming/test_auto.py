"""`--style auto`: never worse than a style asked for by name; what a style cannot do is a reason, not an error."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.isa.program import EngineSpec
from compiler.partition import partition
from compiler.partition.auto.figures import Tried, area_permille, lines, order
from compiler.partition.auto.planner import least_interval_ps, out_of_reach
from compiler.partition.auto.quickest import Quickest, waits_for
from compiler.partition.auto.relaxed import Relaxed, least_ps, relaxation
from compiler.partition.auto.search import Split
from compiler.partition.check import check_plan
from compiler.partition.costs import CostBook
from compiler.partition.defaults import RealOps
from compiler.partition.engines import pool_candidates
from compiler.partition.layout import places
from compiler.partition.mixed.part import offers_of
from compiler.partition.options import PartitionOptions
from compiler.partition.tabulate import node_box, reduce_extent
from compiler.plan.model import Plan
from device_db import load_cluster
from device_db.errors import FvcError
from tests.bundles import EXAMPLES, digits
from tests.cli.commands import fvc
from tests.streaming.helpers import FAST_HOST

DATA = Path(__file__).parents[1] / "data"
DIGITS = (EXAMPLES / "digits.onnx", "--calibrate", EXAMPLES / "digits_calibration.npz")


@cache
def plan_of(style: str, **options: Any) -> Plan:
    asked = PartitionOptions(style=style, host_ns=FAST_HOST, time_limit_s=1.0, **options)
    return partition(digits(), load_cluster("u280"), asked)


@pytest.mark.parametrize("objective", ["throughput", "latency"])
def test_auto_is_never_worse_than_a_style_asked_for_by_name(objective: str) -> None:
    plan = plan_of("auto", objective=objective)
    first, second = ("interval_ns", "latency_ns") if objective == "throughput" else ("latency_ns", "interval_ns")
    ours = plan.predicted[first], plan.predicted[second]
    for style in ("tiled", "streaming"):
        other = plan_of(style, objective=objective)
        assert ours <= (other.predicted[first], other.predicted[second])
        told = plan.predicted["styles"][style]
        assert (told["interval_ns"], told["latency_ns"]) == (
            other.predicted["interval_ns"],
            other.predicted["latency_ns"],
        )
        assert plan.solver.bound <= other.solver.objective
    assert plan.options["style"] == "auto" and check_plan(plan, digits(), load_cluster("u280")) == []


@pytest.mark.parametrize(
    ("options", "why"),
    [({"uniform": True}, "--uniform"), ({"cores": 3}, "--cores"), ({"force_split": (("Pr", 2),)}, "Pm")],
    ids=("uniform", "cores", "rows"),
)
def test_options_of_tiled_engines_leave_the_tiled_plan(options: dict[str, Any], why: str) -> None:
    plan = plan_of("auto", **options)
    told = plan.predicted["styles"]
    assert told["taken"] == "tiled" and not told["streaming"]["fits"] and why in told["streaming"]["why"]
    assert plan.engines == plan_of("tiled", **options).engines


def test_a_limit_that_one_style_keeps_is_kept_and_one_that_none_keeps_is_refused() -> None:
    slow, quick = sorted((plan_of("tiled"), plan_of("streaming")), key=lambda p: p.predicted["fps"])
    between = (slow.predicted["fps"] + quick.predicted["fps"]) / 2
    told = plan_of("auto", target_fps=between).predicted["styles"]
    assert [told[s]["fits"] for s in ("tiled", "streaming")].count(True) == 1
    with pytest.raises(FvcError) as caught:
        plan_of("auto", target_fps=2e9)
    assert (caught.value.code, caught.value.exit_code) == ("FVC204", 1)
    assert any(w.startswith("streaming: ") for w in caught.value.where)


def test_streaming_is_left_out_only_where_no_stream_is_quick_enough() -> None:
    graph, cluster, tiled = digits(), load_cluster("u280"), plan_of("tiled")
    least = 64 * 3334  # 8 x 8 pixels, one a cycle at 300 MHz
    assert least_interval_ps(graph, cluster) == least <= plan_of("streaming").predicted["interval_ns"] * 1000
    for interval_ns, out in ((least // 1000, True), (least // 1000 + 1, False)):
        quick = replace(tiled, predicted={**tiled.predicted, "interval_ns": interval_ns})
        assert bool(out_of_reach(graph, cluster, PartitionOptions(), quick)) is out
        for asked in ({"objective": "latency"}, {"replicas": 2}, {"interval": 9}, {"min_devices": True}):
            assert out_of_reach(graph, cluster, PartitionOptions(**asked), quick) == ""
    assert out_of_reach(graph, cluster, PartitionOptions(), None) == ""


def test_a_wish_that_is_none_of_the_model_is_an_error() -> None:
    with pytest.raises(FvcError) as caught:
        plan_of("auto", anchors=(("nothing", "u280-0"),))
    assert (caught.value.code, caught.value.exit_code) == ("FVC206", 2)


def test_defects_are_no_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Plan:
        raise FvcError("FVC290", "a defect", exit_code=70)

    monkeypatch.setattr("compiler.partition.stream.planner.partition_streaming", broken)
    with pytest.raises(FvcError, match="a defect"):
        partition(digits(), load_cluster("u280"), PartitionOptions(style="auto", time_limit_s=1.0))


def test_the_order_of_plans() -> None:
    cluster = load_cluster("u280")
    tiled, streaming = plan_of("tiled"), plan_of("streaming")
    small, large = sorted((tiled, streaming), key=lambda p: area_permille(p, cluster))
    asked = PartitionOptions(interval=10**6)  # both keep it: the one with less hardware
    assert order(small, cluster, asked) < order(large, cluster, asked)
    two = replace(tiled, engines=(*tiled.engines, replace(tiled.engines[0], device="u280-1")))
    assert order(tiled, cluster, PartitionOptions()) == order(two, cluster, PartitionOptions())
    assert order(tiled, cluster, PartitionOptions(min_devices=True)) < order(
        two, cluster, PartitionOptions(min_devices=True)
    )


def test_a_style_without_a_plan_reads_well() -> None:
    facts = {"taken": "tiled", "tiled": Tried(plan_of("tiled")).facts()}
    facts["streaming"] = Tried(refusal=FvcError("FVC214", "no unit for 'x'")).facts()
    assert lines({"styles": facts})[1] == ("streaming", "no plan: no unit for 'x' (FVC214)")
    assert lines({}) == []


@pytest.mark.parametrize("change", [{"taken": "mixed"}, {"taken": "other"}, None, {"figures": 1}])
def test_edited_styles_are_found(change: dict[str, Any] | None) -> None:
    plan = plan_of("auto")
    styles: Any = plan.predicted["styles"]
    if change is None:
        styles = "tiled"
    elif "taken" in change:
        styles = styles | change
    else:
        own = styles["taken"]
        styles = styles | {own: styles[own] | {"interval_ns": styles[own]["interval_ns"] - 1}}
    found = check_plan(replace(plan, predicted=plan.predicted | {"styles": styles}), digits(), load_cluster("u280"))
    assert [f.where for f in found] == [("predicted.styles",)]


def test_the_command_says_what_each_style_gives(tmp_path: Path) -> None:
    out = tmp_path / "b"
    found = fvc("partition", *DIGITS, "--devices", "u280", "--style", "auto", "-o", out, "--time-limit", "1")
    assert found.code == 0, found.err
    plan = json.loads((out / "plan.json").read_text())
    assert plan["options"]["style"] == "auto"
    assert "  tiled        interval" in found.out and "(taken)" in found.out
    assert "## Styles" in (out / "report.md").read_text()
    streams = {e["style"] for e in plan["engines"]} == {"streaming"}
    assert (out / "export" / "finn").exists() == streams
    assert "style streaming: interval" in fvc("explain", out).out
    for command in ("check", "verify", "simulate"):
        assert fvc(command, out).code == 0


def test_files_of_finn_under_auto(tmp_path: Path) -> None:
    out, model = tmp_path / "b", DATA / "qonnx" / "conv_w1a2.onnx"
    auto = ("--devices", "u280", "--style", "auto", "--time-limit", "1", "-o", out)
    found = fvc("partition", model, *auto, "--export", "finn")
    assert found.code == 0 and "looked at streaming plans alone" in found.err
    folding = out / "export" / "finn" / "folding_config.json"
    found = fvc("partition", model, *auto[:-1], tmp_path / "c", "--fold-from", folding)
    assert found.code == 0, found.err
    predicted = json.loads((tmp_path / "c" / "plan.json").read_text())["predicted"]
    assert predicted["given"]["fits"] and predicted["found"]["fits"]


def test_without_the_option_plans_are_tiled(tmp_path: Path) -> None:
    assert fvc("partition", *DIGITS, "--devices", "u280", "-o", tmp_path / "b", "--no-verify").code == 0
    plan = json.loads((tmp_path / "b" / "plan.json").read_text())
    assert plan["options"]["style"] == "tiled" and {e["style"] for e in plan["engines"]} == {"tiled"}
    assert "styles" not in plan["predicted"]


def quick(**options: Any) -> PartitionOptions:
    """With a host that is no limit."""
    return PartitionOptions(style="auto", host_ns={"host0": 100, "host1": 100}, time_limit_s=1.0, **options)


def split_of(options: PartitionOptions) -> Plan | None:
    cluster = load_cluster("u280")
    tiled = partition(digits(), cluster, replace(quick(), style="tiled"))
    split = Split(digits(), cluster, options, offers_of(digits(), cluster, options), tiled, 200_000)
    return split.best(int(tiled.predicted["interval_ns"]) * 2000)


def test_the_search_gives_a_legal_plan_with_both_styles() -> None:
    plan = split_of(quick())
    assert plan is not None and check_plan(plan, digits(), load_cluster("u280")) == []
    assert {e.style for e in plan.engines} == {"tiled", "streaming"}
    assert sum(len(r.layers) for r in plan.regions) < len(digits().nodes)
    relaxed = relaxation(
        digits(), load_cluster("u280"), offers_of(digits(), load_cluster("u280"), quick()), "auto", True
    )
    assert relaxed.bound_ps(1, 10**9) <= plan.predicted["interval_ns"] * 1000


def test_the_search_for_a_quick_frame_gives_a_legal_plan_with_both_styles() -> None:
    cluster, asked = load_cluster("u280"), quick(objective="latency")
    tiled = partition(digits(), cluster, replace(asked, style="tiled"))
    split = Split(digits(), cluster, asked, offers_of(digits(), cluster, asked), tiled, 1)
    plan = Quickest(split).best(int(tiled.predicted["latency_ns"]) * 2000)
    assert plan is not None and check_plan(plan, digits(), cluster) == []
    assert {e.style for e in plan.engines} == {"tiled", "streaming"}


def test_a_frame_waits_for_the_rows_of_a_window() -> None:
    conv1 = next(n for n in digits().nodes if n.name == "/conv1")  # 3x3, a border of 1, on 8 x 8 pixels
    assert waits_for(conv1) == 1 / 8


def test_the_search_keeps_anchors() -> None:
    plan = split_of(quick(anchors=(("/conv1", "u280-0/SLR0"), ("/scores", "u280-0/SLR2"))))
    assert plan is not None and check_plan(plan, digits(), load_cluster("u280")) == []


def test_the_bound_is_below_every_split_of_small_problems() -> None:
    """All ways to let two dies stream or not, and layers take an option or tiled time, by hand."""
    for seed in range(12):
        draw = random.Random(seed)
        options = [
            sorted((draw.randint(1, 40), draw.randint(1, 30), draw.randint(0, 9)) for _ in range(3)) for _ in "abc"
        ]
        rows = tuple(np.array([[lut, 0, b, 0, 0] for _, lut, b in own], np.int64) for own in options)
        tiled = [draw.randint(5, 60) for _ in options]
        dies = [[draw.randint(20, 60), 9, draw.randint(5, 20), 0, 0] for _ in range(2)]
        best = 10**9
        for streams in ((0,), (1,)):
            room = dies[streams[0]]
            for ways in product(range(4), repeat=len(options)):
                chosen = [own[w] for own, w in zip(options, ways, strict=True) if w < 3]
                if sum(o[1] for o in chosen) > room[0] or sum(o[2] for o in chosen) > room[2]:
                    continue
                time = sum(t for t, w in zip(tiled, ways, strict=True) if w == 3)
                best = min(best, max([time, *(o[0] for o in chosen)]))
        cycles = tuple(np.array([o[0] for o in own], np.int64) for own in options)
        times = np.array(tiled, np.int64).reshape(-1, 1)
        relaxed = Relaxed(1, cycles, rows, times, np.array(dies, np.int64), (0, 0), False)
        proved = relaxed.bound_ps(0, best)
        assert best // 4 <= proved <= best


def test_no_layer_is_quicker_on_an_engine_than_its_arithmetic() -> None:
    graph, here = digits(), places(load_cluster("u280"), None)
    book = CostBook(graph, RealOps())
    offered = pool_candidates(load_cluster("u280"), here[:1], "auto")
    specs: list[EngineSpec] = [c.spec for c in offered[:: max(1, len(offered) // 5)]]
    for node in graph.nodes:
        for spec in specs:
            took = book.cost(node, "full", node_box(graph, node), (0, reduce_extent(node)), spec, "stream")
            if took is not None:
                assert least_ps(graph, node, spec) <= took.least * 10**9 // spec.clock_khz


@pytest.mark.slow
def test_mobilenet_is_quicker_with_both_styles(tmp_path: Path) -> None:
    """No streaming plan takes pixels faster than one a cycle: with the first layers on tiled dies there are two."""
    model, out, host = tmp_path / "m.onnx", tmp_path / "b", tmp_path / "host.json"
    assert fvc("zoo", "mobilenetv1-w4a4", "-o", model).code == 0
    host.write_text('{"schema": "fvc.host-profile/1", "segments_ns": {"host0": 5000, "host1": 5000}}')
    asked = ("-d", "u280x2", "--style", "auto", "-o", out, "--time-limit", "5", "--host-profile", host)
    found = fvc("partition", model, *asked)
    assert found.code == 0, found.err
    told = json.loads((out / "plan.json").read_text())["predicted"]["styles"]
    assert told["taken"] == "mixed"
    assert told["mixed"]["interval_ns"] < 0.6 * min(told[s]["interval_ns"] for s in ("tiled", "streaming"))
    assert "mixed        interval" in found.out
    for command in ("check", "explain"):
        assert fvc(command, out).code == 0
    simulated = fvc("simulate", out, "--format", "json").document
    assert abs(simulated["interval_ps"] / 1000 / told["mixed"]["interval_ns"] - 1) < 0.05
    assert abs(simulated["latency_ps"] / 1000 / told["mixed"]["latency_ns"] - 1) < 0.05
