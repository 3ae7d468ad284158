"""FINN's files read: names as FINN gives them, folds and dies that hold, files that are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from compiler.bundle import open_bundle
from compiler.catalog import CATALOG
from compiler.frontend import load_model
from compiler.frontend.origin import finn_front
from compiler.ir.graph import Graph
from compiler.judge import _check_links, programs_of
from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.finn.names import numbered, peers
from compiler.partition.finn.read import anchors_from, folds_from
from compiler.partition.given import improved, lines, sketched
from compiler.partition.options import PartitionOptions
from compiler.plan.model import Plan
from device_db import load_cluster
from device_db.errors import FvcError
from tests.cli.commands import fvc

DATA = Path(__file__).parents[1] / "data"
NAMES: dict[str, list[str]] = json.loads((DATA / "finn" / "names.json").read_text())["names"]
CONV = DATA / "qonnx" / "conv_w1a2.onnx"
FAST = {"host0": 500, "host1": 500}
# Layers of conv_w1a2: 3x3 dense, 3x3 depthwise, pool, 1x1, two matrix products.
WHOLE = {
    "Defaults": {"PE": [1, ["all"]]},
    "MVAU_hls_0": {"PE": 2, "SIMD": 1, "ram_style": "distributed"},
    "VVAU_hls_0": {"PE": 2},
    "MVAU_hls_1": {"PE": 3, "SIMD": 2},
    "MVAU_hls_2": {"PE": 2, "SIMD": 2},
    "MVAU_hls_3": {"SIMD": 2},
    "Pool_hls_0": {"PE": 4},
}


@cache
def conv() -> Graph:
    return load_model(CONV)


def write(folder: Path, content: object, name: str = "f.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("name", ["conv_w1a2", "conv_w4a4_float"])
def test_nodes_are_called_as_finn_calls_them(name: str) -> None:
    """FINN's own names up to the float tail, without the suffix that specialising adds."""
    path = DATA / "qonnx" / f"{name}.onnx"
    ours = numbered([p.kind for p in peers(load_model(path), finn_front(path) or 0)])
    count: dict[str, int] = {}
    theirs = []
    for kind in (n.rpartition("_")[0].removesuffix("_hls").removesuffix("_rtl") for n in NAMES[name]):
        theirs.append(f"{kind}_{count.get(kind, 0)}")
        count[kind] = count.get(kind, 0) + 1
    assert ours == [n for n in theirs if not n.startswith("Elementwise")]


def given(folds: Path | None, floor: Path | None, devices: str = "u280x2") -> Plan:
    graph, cluster, options = conv(), load_cluster(devices), PartitionOptions(style="streaming", host_ns=FAST)
    asked = options
    if folds is not None:
        asked = replace(asked, folds=folds_from(graph, folds, 1)[0])
    if floor is not None:
        asked = replace(asked, anchors=anchors_from(graph, cluster, floor, 1)[0])
    plan = improved(lambda: partition(graph, cluster, asked), lambda: partition(graph, cluster, options))
    assert check_plan(plan, graph, cluster) == []
    return plan


def test_folds_and_dies_of_the_files_hold(tmp_path: Path) -> None:
    folds, notes = folds_from(conv(), write(tmp_path, WHOLE), 1)
    assert notes == []
    table = {f[0]: f[1:] for f in folds}
    assert [table[n.name][:2] for n in conv().nodes if n.name in table] == [
        (2, 1), (2, 1), (4, 1), (3, 2), (2, 2), (1, 2),
    ]  # fmt: skip
    first = conv().nodes[0].name
    assert table[first] == (2, 1, "lutram", "hls")
    place = {n: {"slr": 2, "device_id": 1} for n in WHOLE if n != "Defaults"}
    cluster = load_cluster("u280x2")
    anchors, notes = anchors_from(conv(), cluster, write(tmp_path, place), 1)
    options = PartitionOptions(style="streaming", host_ns=FAST, folds=folds, anchors=anchors)
    plan = partition(conv(), cluster, options)
    engines = {layer.name: e for layer, e in zip(plan.layers, plan.engines, strict=True)}
    for layer, pe, simd, *_ in folds:
        assert (engines[layer].fold, engines[layer].die) == ({"pe": pe, "simd": simd}, "SLR2")
    assert check_plan(replace(plan, options=plan.options | {"folds": [[first, 1, 1, "", ""]]}), conv(), cluster)


def test_a_poor_folding_is_judged_and_improved(tmp_path: Path) -> None:
    one = {n: {"PE": 1, "SIMD": 9 if "VVAU" in n else 1} for n in WHOLE if n != "Defaults"}
    plan = given(write(tmp_path, one), None)
    told, found = plan.predicted["given"], plan.predicted["found"]
    assert told["fits"] and plan.predicted["taken"] == {"plan": "found"}
    assert plan.predicted["interval_ns"] == found["interval_ns"] < told["interval_ns"]
    alone = partition(conv(), load_cluster("u280x2"), PartitionOptions(style="streaming", host_ns=FAST))
    assert plan.engines == alone.engines


def test_names_of_layers_serve_too_and_leave_the_rest_open(tmp_path: Path) -> None:
    first = conv().nodes[0].name
    folds, _ = folds_from(conv(), write(tmp_path, {first: {"PE": 2}}), 1)
    assert folds == ((first, 2, 1, "", ""),)


def test_a_given_plan_that_does_not_fit_is_told() -> None:
    graph, cluster = conv(), load_cluster("pynq-z2")
    options = PartitionOptions(style="streaming", host_ns=FAST)

    def none() -> Plan:
        raise FvcError("FVC203", "too large", exit_code=1)

    plan = improved(none, lambda: partition(graph, cluster, options))
    assert plan.predicted["given"] == {"fits": False, "code": "FVC203", "why": "too large", "where": []}
    assert any("FVC203" in f for f in plan.fallbacks)


def test_what_a_given_plan_that_does_not_fit_would_take(tmp_path: Path) -> None:
    """Every layer folded to one, the first measured as larger than the board; cycles by hand: 64 pixels x 27 x 8."""
    cluster = load_cluster("pynq-z2")
    names = [n.name for n in conv().nodes]
    folds = folds_from(conv(), write(tmp_path, {n: {"PE": 1, "SIMD": 1} for n in names}), 1)[0]
    huge = ((names[0], 1, 1, "", "", 10**6, 0, 0, 0, 0),)
    options = PartitionOptions(style="streaming", host_ns=FAST, folds=folds, measured=huge)
    free = replace(options, folds=(), measured=())
    plan = improved(
        lambda: partition(conv(), cluster, options),
        lambda: partition(conv(), cluster, free),
        lambda: sketched(conv(), cluster, options),
    )
    told = plan.predicted["given"]
    assert (told["fits"], told["code"], told["interval_cycles"]) == (False, "FVC203", 64 * 27 * 8)
    assert told["resources"]["lut"] > 10**6 and {o["resource"] for o in told["over"]} == {"lut"}
    assert any("all dies" in line for _, line in lines(plan.predicted))


BAD_FOLDS = [
    ("", "FVC007"),
    ("{", "FVC007"),
    ("[]", "FVC007"),
    ("3", "FVC007"),
    ('{"MVAU_hls_0": 3}', "FVC007"),
    ('{"MVAU_hls_0": {}, "MVAU_hls_0": {}}', "FVC007"),
    ("[" * 100_000, "FVC007"),
    ("{}", "FVC217"),
    (WHOLE | {"Defaults": {"fvc": [{"n8_Conv": ["2"]}, ["fvc"]]}}, "FVC007"),
    ({"MVAU_hls_0": {"PE": 1}}, "FVC217"),
    ({n: v for n, v in WHOLE.items() if n != "VVAU_hls_0"}, "FVC217"),
    ({n.replace("_3", "_4"): v for n, v in WHOLE.items()}, "FVC217"),
    (WHOLE | {"MVAU_hls_4": {"PE": 1, "SIMD": 1}}, "FVC217"),
    ({"n8_Conv": {"PE": 1}, "another": {"PE": 1}}, "FVC217"),
    (WHOLE | {"MVAU_hls_1": {"PE": 7, "SIMD": 2}}, "FVC218"),
    (WHOLE | {"MVAU_hls_1": {"PE": 3, "SIMD": 5}}, "FVC218"),
    (WHOLE | {"MVAU_hls_1": {"PE": 0, "SIMD": 2}}, "FVC218"),
    (WHOLE | {"MVAU_hls_1": {"PE": True, "SIMD": 2}}, "FVC218"),
    (WHOLE | {"MVAU_hls_1": {"PE": "3", "SIMD": 2}}, "FVC218"),
    (WHOLE | {"MVAU_hls_1": {"PE": 3.0, "SIMD": 2}}, "FVC218"),
    (WHOLE | {"MVAU_hls_1": {"PE": 3, "SIMD": 2, "ram_style": 5}}, "FVC218"),
    (WHOLE | {"MVAU_hls_1": {"PE": 3, "SIMD": 2, "ram_style": "BLOCK"}}, "FVC218"),
    (WHOLE | {"MVAU_hls_1": {"PE": 3, "SIMD": 2, "mem_mode": "decoupled"}}, "FVC218"),
    (WHOLE | {"MVAU_hls_1": {"PE": 3, "SIMD": 2, "resType": None}}, "FVC218"),
    (WHOLE | {"MVAU_hls_1": {"PE": 3, "SIMD": 2, "preferred_impl_style": []}}, "FVC218"),
    (WHOLE | {"Defaults": {"PE": 1}}, "FVC007"),
    (WHOLE | {"Defaults": {"PE": [1, ["MVAU", 3]]}}, "FVC007"),
    (WHOLE | {"Pool_hls_0": {"PE": 3}}, "FVC218"),
]


@pytest.mark.parametrize("content, code", BAD_FOLDS, ids=lambda x: str(x)[:30])
def test_a_fold_file_that_is_wrong(content: object, code: str, tmp_path: Path) -> None:
    with pytest.raises(FvcError) as caught:
        folds_from(conv(), write(tmp_path, content), 1)
    assert (caught.value.code, caught.value.exit_code) == (code, 2)
    assert code in CATALOG and caught.value.where


PLACED = {n: {"slr": 0, "device_id": 0} for n in WHOLE if n != "Defaults"}
BAD_FLOORS = [
    (PLACED | {"MVAU_hls_1": {"slr": 3}}, "FVC219"),
    (PLACED | {"MVAU_hls_1": {"slr": -2}}, "FVC219"),
    (PLACED | {"MVAU_hls_1": {"slr": "SLR1"}}, "FVC219"),
    (PLACED | {"MVAU_hls_1": {"slr": 0, "device_id": 2}}, "FVC219"),
    (PLACED | {"MVAU_hls_1": {"slr": 0, "device_id": None}}, "FVC219"),
    (PLACED | {"StreamingFIFO_rtl_0": {"slr": 9}}, "FVC219"),
    (PLACED | {"MVAU_hls_1": {"slr": 0, "partition_id": "1"}}, "FVC219"),
    (PLACED | {"MVAU_hls_1": {"slr": 0, "mem_port": 0}}, "FVC219"),
    ({"MVAU_hls_0": {"slr": 0}}, "FVC217"),
    ("null", "FVC007"),
]


@pytest.mark.parametrize("content, code", BAD_FLOORS, ids=lambda x: str(x)[-30:])
def test_a_floorplan_that_is_wrong(content: object, code: str, tmp_path: Path) -> None:
    with pytest.raises(FvcError) as caught:
        anchors_from(conv(), load_cluster("u280x2"), write(tmp_path, content), 1)
    assert (caught.value.code, caught.value.exit_code) == (code, 2)
    assert caught.value.help


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    plain = folds_from(conv(), write(tmp_path, WHOLE), 1)
    assert folds_from(conv(), write(tmp_path, "\ufeff" + json.dumps(WHOLE)), 1) == plain


def test_refusals_at_the_command_line_write_nothing(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    bad = write(tmp_path, WHOLE | {"MVAU_hls_1": {"PE": 7, "SIMD": 2}})
    good = write(tmp_path, WHOLE, "good.json")
    streaming = ("--style", "streaming")
    for arguments, code in (
        ((*streaming, "--fold-from", bad), "FVC218"),
        ((*streaming, "--fold-from", tmp_path / "none.json"), "FVC002"),
        ((*streaming, "--floorplan-from", tmp_path), "FVC002"),
        (("--fold-from", good), "FVC201"),
        (("--floorplan-from", good), "FVC201"),
        ((*streaming, "--fold-from", good, "--locked", good), "FVC201"),
    ):
        found = fvc("partition", CONV, "--devices", "u280", "-o", out, *arguments)
        assert (found.code, found.error_code, found.out) == (2, code, ""), found.err
        assert not out.exists()


def test_given_and_found_stand_in_plan_and_report(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    fold = write(tmp_path, WHOLE)
    found = fvc("partition", CONV, "--devices", "u280", "--style", "streaming", "-o", out, "--fold-from", fold)
    assert found.code == 0, found.err
    assert "  given " in found.out and "  found " in found.out
    plan = json.loads((out / "plan.json").read_text())
    assert plan["predicted"]["given"]["fits"] and plan["predicted"]["found"]["fits"]
    assert "Given and found" in (out / "report.md").read_text()
    assert fvc("check", out).code == 0


def test_a_bundle_on_two_boards_passes_its_check_and_an_edited_line_does_not(tmp_path: Path) -> None:
    """Between netlists a line of 100 Gb/s carries 1408 of every 1474 bytes as payload (VNx' packets)."""
    out, names = tmp_path / "b", [n.name for n in conv().nodes]
    place = ("--anchor", f"{names[0]}=u50-1", "--anchor", f"{names[-1]}=u50-0")
    found = fvc("partition", CONV, "--devices", "u50x2", "--style", "streaming", "-o", out, "--frames", "1", *place)
    assert found.code == 0, found.err
    checked = fvc("check", out)
    assert checked.code == 0, checked.out + checked.err
    programs = programs_of(open_bundle(out).binaries())
    lines = [x for p in programs for x in p.links if x.id == "u50-1>u50-0"]
    assert [x.bits_per_second for x in lines] == [10**11 * 1408 // 1474] * 2
    cluster = load_cluster("u50x2")
    assert _check_links(programs, cluster, mixed=False) == []
    programs[0].links = [replace(x, bits_per_second=10**11) for x in programs[0].links]
    assert {f.code for f in _check_links(programs, cluster, mixed=False)} == {"FVC331"}
