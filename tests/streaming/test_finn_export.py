"""Files for FINN and for a cluster's runtime: FINN's names and estimates, round trips, wiring without loose ends."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.export.finn import finn_files, partitions
from compiler.export.network import network_files
from compiler.frontend import load_model
from compiler.frontend.origin import finn_front
from compiler.ir.graph import Graph
from compiler.isa.check import check_programs
from compiler.isa.stream.resources import finn_node
from compiler.isa.stream.table import MEMORIES, VARIANTS
from compiler.ops.stream.lower import legal_folds, lower
from compiler.ops.stream.netlists import Seat
from compiler.ops.stream.parts import Fold
from compiler.partition import partition
from compiler.partition.finn.names import peers
from compiler.partition.finn.read import anchors_from, folds_from
from compiler.partition.given import improved
from compiler.partition.options import PartitionOptions
from compiler.plan.model import Plan
from compiler.schedule import schedule
from cost_models.finn import estimate
from cost_models.network import wire_bytes
from device_db import load_cluster
from device_db.errors import FvcError
from device_db.model import DieRef
from tests.bundles import digits
from tests.cli.commands import fvc
from tests.streaming.helpers import FAST_HOST, SPREAD, plan_of, programs

DATA = Path(__file__).parents[1] / "data"
NAMES: dict[str, list[str]] = json.loads((DATA / "finn" / "names.json").read_text())["names"]
ESTIMATES = json.loads((DATA / "finn" / "estimates.json").read_text())
LOW_BIT = ("conv_w1a2", "conv_w4a4_float")
ROUND = (*LOW_BIT, "finn", "residual", "residual_unlike", "conv_w1a1")
LIVE = os.environ.get("FINN_PYTHON")


@cache
def model(name: str) -> Graph:
    return load_model(DATA / "qonnx" / f"{name}.onnx")


@cache
def low_bit_plan(name: str, devices: str) -> Plan:
    return partition(model(name), load_cluster(devices), PartitionOptions(style="streaming", host_ns=FAST_HOST))


def base(name: str) -> str:
    return name.rpartition("_")[0].removesuffix("_hls").removesuffix("_rtl")


@pytest.mark.parametrize("name", LOW_BIT)
def test_every_file_names_the_nodes_that_finn_makes(name: str) -> None:
    front = finn_front(DATA / "qonnx" / f"{name}.onnx")
    files = finn_files(model(name), low_bit_plan(name, "u280"), load_cluster("u280"), front)
    theirs = [base(n) for n in NAMES[name] if not n.startswith("Elementwise")]
    for file in ("folding_config", "floorplan", "specialize_layers_config"):
        content = json.loads(files[f"export/finn/{file}.json"])
        assert [base(n) for n in content if n != "Defaults"] == theirs
    mapped = [line.split(": ") for line in files["export/finn/partition.yaml"].decode().splitlines()]
    assert [base(n) for n, _ in mapped] == theirs and {d for _, d in mapped} == {"0"}
    place = json.loads(files["export/finn/floorplan.json"])["VVAU_hls_0"]
    assert set(place) == {"slr", "device_id", "partition_id", "mem_port"}


def back(graph: Graph, plan: Plan, devices: str, front: int | None, folder: Path) -> Plan:
    """The plan that comes out when its own export goes in."""
    cluster = load_cluster(devices)
    for name, content in finn_files(graph, plan, cluster, front).items():
        (folder / Path(name).name).write_bytes(content)
    options = PartitionOptions(style="streaming", host_ns=FAST_HOST)
    folds, told = folds_from(graph, folder / "folding_config.json", front or 0)
    anchors, more = anchors_from(graph, cluster, folder / "floorplan.json", front or 0)
    assert told == more == []
    asked = replace(options, folds=folds, anchors=anchors)
    alone = partition(graph, cluster, asked)
    assert alone.engines == plan.engines and alone.layers == plan.layers
    return improved(lambda: alone, lambda: partition(graph, cluster, options))


@pytest.mark.parametrize("devices", ["u280", "u280x2"])
@pytest.mark.parametrize("name", ROUND)
def test_an_export_read_again_gives_the_same_plan(name: str, devices: str, tmp_path: Path) -> None:
    plan = low_bit_plan(name, devices)
    again = back(model(name), plan, devices, finn_front(DATA / "qonnx" / f"{name}.onnx"), tmp_path)
    assert again.engines == plan.engines and again.channels == plan.channels
    assert again.predicted["given"] == again.predicted["found"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_any_plan_comes_back_from_its_export(seed: int, tmp_path: Path) -> None:
    """Random folds and dies of random layers, measured here and there, on one and two devices."""
    random = Random(seed)
    for _ in range(8):
        name, devices = random.choice(["conv_w1a2", "residual", "finn"]), random.choice(["u280x2", "zcu102x2", "v80"])
        graph, cluster, front = model(name), load_cluster(devices), finn_front(DATA / "qonnx" / f"{name}.onnx") or 0
        dies = [cluster.die_name(ref) for ref in cluster.dies]
        folds, anchors, rows = [], [], []
        for node in graph.nodes:
            fold = random.choice(legal_folds(graph, node, True))
            asked = (node.name, fold.pe, fold.simd, MEMORIES[fold.memory], VARIANTS[fold.variant])
            folds += [asked] if random.random() < 0.7 else []
            anchors += [(node.name, random.choice(dies))] if random.random() < 0.6 else []
            rows += [(*asked, random.randrange(3000), 50, 3, 0, 1)] if random.random() < 0.2 else []
        options = PartitionOptions(style="streaming", host_ns={s.name: 300 for s in graph.host_segments})
        options = replace(options, measured=tuple(rows), time_limit_s=3.0)
        try:
            plan = partition(graph, cluster, replace(options, folds=tuple(folds), anchors=tuple(anchors)))
        except FvcError as problem:
            assert problem.exit_code == 1
            continue
        assert check_programs(schedule(graph, plan, cluster)) == []
        for file, content in finn_files(graph, plan, cluster, front).items():
            (tmp_path / Path(file).name).write_bytes(content)
        read = folds_from(graph, tmp_path / "folding_config.json", front)[0]
        place = anchors_from(graph, cluster, tmp_path / "floorplan.json", front)[0]
        again = partition(graph, cluster, replace(options, folds=read, anchors=place))
        assert again.engines == plan.engines


def test_an_edited_entry_counts_more_than_what_fvc_left_for_itself(tmp_path: Path) -> None:
    plan = low_bit_plan("conv_w1a2", "u280")
    content = json.loads(
        finn_files(model("conv_w1a2"), plan, load_cluster("u280"), 1)["export/finn/folding_config.json"]
    )
    content["VVAU_hls_0"]["PE"] = 1 if content["VVAU_hls_0"]["PE"] != 1 else 8
    (tmp_path / "f.json").write_text(json.dumps(content))
    folds = {f[0]: f for f in folds_from(model("conv_w1a2"), tmp_path / "f.json", 1)[0]}
    assert folds["n21_Conv"][1] == content["VVAU_hls_0"]["PE"]
    assert set(folds) == {n.name for n in model("conv_w1a2").nodes}


def test_a_graph_that_finn_does_not_read_goes_by_layer_names(tmp_path: Path) -> None:
    plan = plan_of("u280x2", None, SPREAD)
    files = finn_files(digits(), plan, load_cluster("u280x2"), None)
    layers = {layer.name for layer in plan.layers}
    assert set(json.loads(files["export/finn/folding_config.json"])) == layers | {"Defaults"}
    again = back(digits(), plan, "u280x2", None, tmp_path)
    assert again.predicted["interval_ns"] <= plan.predicted["interval_ns"]


@pytest.mark.parametrize("name", LOW_BIT)
def test_cycles_and_memories_of_every_node_are_finn_pluss_own(name: str) -> None:
    """At one given folding; LUTs with FINN's types (it finds narrower thresholds, and calls -1, +1 INT2)."""
    graph, recorded = model(name), ESTIMATES[name]
    path = DATA / "qonnx" / f"{name}.onnx"
    folds = {layer: Fold(*fold) for layer, fold in recorded["folds"].items()}
    compared = 0
    for peer, node in zip(peers(graph, finn_front(path) or 0), recorded["nodes"].values(), strict=True):
        if not peer.layer:
            continue
        layer = next(n for n in graph.nodes if n.name == peer.layer)
        units = [u for u in lower(graph, layer, folds[peer.layer]).units if u.op == peer.op]
        kind, attributes = finn_node(units[peer.unit].instruction()) or ("", {})
        types = [t for t in node if t.endswith("DataType")]
        found = estimate(kind, attributes | {t: node[t] for t in types if t in attributes}, model="finn")
        have = [found.cycles, found.lut, found.bram18, found.uram, found.dsp]
        assert have == [node[k] for k in ("cycles", "lut", "bram18", "uram", "dsp")], peer
        compared += 1
    assert compared == len(recorded["nodes"]) - 1


@pytest.mark.skipif(LIVE is None, reason="FINN_PYTHON names an interpreter with finn-plus")
@pytest.mark.parametrize("name", LOW_BIT)
def test_finn_plus_takes_the_files(name: str, tmp_path: Path) -> None:
    path = DATA / "qonnx" / f"{name}.onnx"
    files = finn_files(model(name), low_bit_plan(name, "u280"), load_cluster("u280"), finn_front(path))
    for file, content in files.items():
        (tmp_path / Path(file).name).write_bytes(content)
    script = Path(__file__).with_name("finn_oracle.py")
    subprocess.run([str(LIVE), script, path, tmp_path / "out.json", tmp_path], check=True, capture_output=True)
    out = json.loads((tmp_path / "out.json").read_text())
    asked = json.loads(files["export/finn/folding_config.json"])
    assert out["unused"] == []
    for node, attributes in asked.items():
        if node != "Defaults":
            assert {k: out["nodes"][node].get(k) for k in ("PE", "SIMD") if k in attributes} == {
                k: attributes[k] for k in ("PE", "SIMD") if k in attributes
            }
    told = json.loads(files["export/finn/estimates.json"])
    assert told["interval_cycles"] == max(n["cycles"] for k, n in out["nodes"].items() if k in asked)
    for node, figures in told["nodes"].items():
        for key in figures.keys() - {"lut"}:
            assert out["nodes"][node][key] == figures[key], (node, key)


def test_a_pool_of_all_channels_at_once_is_depthwise_for_finn() -> None:
    """2x2 taps, stride 2, on 8x8 positions of 8 channels: finn-plus 1.6.1 says 82 cycles, 8 more than of no pool."""
    path = DATA / "qonnx" / "conv_w1a2.onnx"
    files = finn_files(model("conv_w1a2"), low_bit_plan("conv_w1a2", "u280"), load_cluster("u280"), finn_front(path))
    asked = json.loads(files["export/finn/folding_config.json"])["ConvolutionInputGenerator_rtl_2"]
    told = json.loads(files["export/finn/estimates.json"])["nodes"]["ConvolutionInputGenerator_rtl_2"]
    assert (asked["SIMD"], told["cycles"]) == (8, 82)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=40, max_size=40))
def test_kernels_never_stand_in_a_circle(places: list[int]) -> None:
    graph = digits()
    seats = {n.name: Seat(DieRef(k // 3, k % 3), Fold(1)) for n, k in zip(graph.nodes, places, strict=False)}
    kernels = partitions(graph, seats)
    assert all(seats[a].ref == seats[b].ref for a in kernels for b in kernels if kernels[a] == kernels[b])
    reads: dict[int, set[int]] = {k: set() for k in kernels.values()}
    maker = {graph.root(n.y): {kernels[n.name]} for n in graph.nodes}
    for s in graph.steps:
        if hasattr(s, "outputs"):
            for y in s.outputs:
                maker[graph.root(y)] = {k for x in s.inputs for k in maker.get(graph.root(x), ())}
        else:
            before = {k for x in s.inputs for k in maker.get(graph.root(x), ())}
            reads[kernels[s.name]] |= before - {kernels[s.name]}
    while reads:  # take out what waits for nobody
        free = [k for k, needs in reads.items() if not needs & set(reads)]
        assert free
        for k in free:
            del reads[k]


def cluster_files() -> dict[str, bytes]:
    plan, cluster = plan_of("u280x2", 3000, SPREAD), load_cluster("u280x2")
    return network_files(digits(), plan, cluster, programs("u280x2", 3000, SPREAD))


def test_both_ends_of_a_socket_agree() -> None:
    tables = json.loads(cluster_files()["export/network.json"])
    address = {(r["rank"], r.get("interface")): r.get("address") for r in tables["ranks"]}
    assert len(set(address.values())) == len(address)
    rows = {
        (r["address"], s["my_port"], s["their_address"], s["their_port"]): s
        for r in tables["ranks"] if "interface" in r
        for s in tables["sockets"][f"{r['device']}/{r['interface']}"]
    }  # fmt: skip
    assert rows
    for (mine, my_port, theirs, their_port), s in rows.items():
        other = rows[(theirs, their_port, mine, my_port)]
        assert {s["direction"], other["direction"]} == {"send", "receive"} and s["channel"] == other["channel"]
    for c in tables["channels"]:
        assert c["wire_bytes_a_frame"] == wire_bytes(c["bytes_a_frame"]) > c["bytes_a_frame"]


def test_every_kernel_of_a_card_is_declared_placed_and_wired_once() -> None:
    files = cluster_files()
    assert sorted(f for f in files if f.endswith(".cfg")) == ["export/vitis/u280-0.cfg", "export/vitis/u280-1.cfg"]
    for name, content in files.items():
        if not name.endswith(".cfg"):
            continue
        head, *lines = content.decode().splitlines()
        assert head == "[connectivity]"
        units = {line.split(":")[2] for line in lines if line.startswith("nk=")}
        placed = {line[4:].split(":")[0] for line in lines if line.startswith("slr=")}
        assert units == placed
        ends = [e for line in lines if line.startswith("stream_connect=") for e in line[15:].split(":")]
        assert len(ends) == len(set(ends)) and {e.split(".")[0] for e in ends} == units


def test_one_device_needs_no_network() -> None:
    plan, cluster = plan_of("u280"), load_cluster("u280")
    assert network_files(digits(), plan, cluster, schedule(digits(), plan, cluster)) == {}


def test_bundles_have_the_files_and_tiled_ones_are_refused(tmp_path: Path) -> None:
    path = DATA / "qonnx" / "conv_w1a2.onnx"
    out = tmp_path / "b"
    found = fvc("partition", path, "--devices", "u280", "-o", out, "--export", "finn")
    assert (found.code, found.error_code) == (2, "FVC201") and not out.exists()
    assert fvc("partition", path, "--devices", "u280", "-o", out, "--style", "streaming").code == 0
    assert sorted(p.name for p in (out / "export" / "finn").iterdir()) == [
        "estimates.json", "floorplan.json", "folding_config.json", "partition.yaml", "specialize_layers_config.json",
    ]  # fmt: skip
    assert fvc("check", out).code == 0
