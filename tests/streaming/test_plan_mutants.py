"""Plans edited by hand: whatever is told wrongly, the plan checker finds, by the code that it belongs to."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.options import PartitionOptions
from compiler.plan.io import parse_plan, write_plan
from device_db import load_cluster
from device_db.errors import FvcError
from device_db.model import Cluster
from tests.bundles import digits
from tests.streaming.helpers import FAST_HOST, SPREAD, plan_of
from tests.streaming.test_mixed import TWICE
from tests.streaming.test_mixed import plan_of as mixed_of

Document = dict[str, Any]
DEVICES = {"spread": "u280x2", "cut": "u280", "dram": "u280", "copies": "u280", "mixed": "u280"}
OPTIONS: dict[str, dict[str, Any]] = {
    "cut": {"force_split": (("Pm", 2), ("Pn", 2))},
    "dram": {"memory": "external"},
    "copies": {"replicas": 2},
}


@cache
def text_of(base: str) -> str:
    if base == "spread":
        return write_plan(plan_of("u280x2", 3000, SPREAD))
    if base == "mixed":
        return write_plan(mixed_of("u280", TWICE))
    options = PartitionOptions(style="streaming", host_ns=FAST_HOST, time_limit_s=2.0, **OPTIONS[base])
    return write_plan(partition(digits(), load_cluster("u280"), options))


def engine(d: Document, layer: str, part: int = 0) -> Document:
    (name,) = (x["slices"][part]["engine"] for x in d["layers"] if x["name"] == layer)
    return next(e for e in d["engines"] if e["id"] == name)


def piece(d: Document, layer: str, part: int = 0) -> Document:
    return next(x["slices"][part] for x in d["layers"] if x["name"] == layer)


def parts(d: Document) -> Document:
    """A layer that is cut by rows and columns."""
    return next(x for x in d["layers"] if x["strategy"] == "Pm=2,Pn=2")


def move(d: Document, layer: str, device: str, die: str, rank: int) -> None:
    """An engine with everything that names it."""
    e = engine(d, layer)
    old, new = e["id"], f"{device}/{die}/{e['id'].rpartition('/')[2]}"
    e |= {"id": new, "device": device, "die": die, "rank": rank}
    piece(d, layer)["engine"] = new
    for c in d["channels"]:
        c["source"], c["target"] = (new if x == old else x for x in (c["source"], c["target"]))


def quicker(d: Document, cycles: int) -> None:
    """An interval of some cycles less, and all that follows from it."""
    p, s = d["predicted"], d["solver"]
    p["pace_ps"] -= 3334 * cycles
    p["interval_cycles"] -= cycles
    p["interval_ns"] = -(-p["pace_ps"] // 1000)
    p["fps"] = round(10**12 / p["pace_ps"], 3)
    s["objective"] = p["interval_cycles"]
    s["bound"] = min(s["bound"], s["objective"])
    s["gap"] = round((s["objective"] - s["bound"]) / s["objective"], 6)


def at(*path: str | int, value: Any = None, add: Any = None) -> Callable[[Document], None]:
    """Sets what is at a path, or adds to it."""

    def edit(d: Any) -> None:
        for k in path[:-1]:
            d = d[k]
        d[path[-1]] = value if add is None else d[path[-1]] + add

    return edit


def fold(layer: str, **values: Any) -> Callable[[Document], None]:
    def edit(d: Document) -> None:
        e = engine(d, layer)
        for key, value in values.items():
            e["fold" if key in ("pe", "simd") else "parameters"][key] = value
        piece(d, layer)["memory"] = e["parameters"]["memory"]

    return edit


def half_as_quick(d: Document) -> None:
    """A legal fold whose cycles are told rightly: its resources and streams are still those of the other."""
    engine(d, "/conv3")["fold"]["pe"] //= 2
    piece(d, "/conv3")["cycles"] *= 2


def without_a_crossing(d: Document) -> None:
    del d["predicted"]["crossings"][next(iter(d["predicted"]["crossings"]))]


def straight(d: Document) -> None:
    """A channel that forgets the die that it passes."""
    c = next(c for c in d["channels"] if len(c["route"]) > 2)
    c["route"] = c["route"][:-1]


def quick_one(d: Document) -> None:
    d["predicted"]["limiting"]["where"] = engine(d, "/pool")["id"]


def a_row_less(d: Document) -> None:
    parts(d)["slices"][0]["box"][3] -= 1


def overlapping(d: Document) -> None:
    slices = parts(d)["slices"]
    slices[2]["box"] = list(slices[0]["box"])


def one_column_less(d: Document) -> None:
    parts(d)["slices"][0]["reduce_to"] -= 1


def lost(d: Document) -> None:
    """A part of a layer, with its engine."""
    gone = parts(d)["slices"].pop(0)
    d["engines"] = [e for e in d["engines"] if e["id"] != gone["engine"]]


def swapped(d: Document) -> None:
    slices = parts(d)["slices"]
    slices[0], slices[1] = slices[1], slices[0]


def half_the_bytes(d: Document) -> None:
    for row in d["predicted"]["banks"].values():
        row["bytes_per_frame"] //= 2


def idle(d: Document) -> None:
    d["predicted"]["links"]["u280-0>u280-1"]["utilisation_permille"] = 1


def deep(d: Document) -> None:
    engine(d, "/add")["parameters"]["fifo_depths"][1] = 2000


def streaming(d: Document) -> Document:
    return next(e for e in d["engines"] if (e["style"] == "streaming" and e["fold"]["pe"] > 1) or e["fold"].get("simd"))


def on_a_tiled_die(d: Document) -> None:
    streaming(d)["die"] = next(x["die"] for x in d["engines"] if x["style"] == "tiled")


E = "FVC220"
BOUNDARY = "u280-0/SLR0>SLR1"
MUTANTS: list[tuple[str, str, Callable[[Document], Any], str]] = [
    ("spread", "PE that does not divide", fold("/conv3", pe=3), E),
    ("spread", "SIMD that does not divide", fold("/conv3", simd=3), E),
    ("spread", "PE of nothing", fold("/conv3", pe=0), E),
    ("spread", "PE of more than there is", fold("/conv1", pe=64), E),
    ("spread", "SIMD of a layer without weights", fold("/pool", simd=2), E),
    ("spread", "PE of an addition", fold("/add", pe=5), E),
    ("spread", "a variant that a pool has not", fold("/pool", variant="rtl"), E),
    ("spread", "a memory for no weights", fold("/pool", memory="bram"), E),
    ("spread", "shallow weights in URAM", fold("/conv1", memory="uram"), E),
    ("spread", "another legal fold", fold("/conv3", pe=4), E),
    ("spread", "another legal fold with its cycles", half_as_quick, E),
    ("spread", "moved, and all names with it", lambda d: move(d, "/conv3", "u280-0", "SLR1", 0), E),
    ("spread", "a die that is not there", lambda d: move(d, "/conv3", "u280-1", "SLR7", 1), E),
    ("spread", "two layers on one engine", lambda d: piece(d, "/pool").update(engine=engine(d, "/conv1")["id"]), E),
    ("spread", "an engine too few", lambda d: d["engines"].pop(2), E),
    ("spread", "a layer too few", lambda d: d["layers"].pop(2), E),
    ("spread", "an interval a nanosecond less", at("predicted", "interval_ns", add=-1), E),
    ("spread", "an interval a cycle less, all figures", lambda d: quicker(d, 1), E),
    ("spread", "an interval a cycle more, all figures", lambda d: quicker(d, -1), E),
    ("spread", "a latency of less", at("predicted", "latency_ns", add=-1), E),
    ("spread", "a pace of less", at("predicted", "pace_ps", add=-1), E),
    ("spread", "a crossing dropped", without_a_crossing, E),
    ("spread", "fewer wires", at("predicted", "crossings", "u280-1/SLR1>SLR0", "wires", add=-8), E),
    ("spread", "a route without its transit", straight, E),
    ("spread", "a channel dropped", lambda d: d["channels"].pop(), E),
    ("spread", "a channel twice", lambda d: d["channels"].append(d["channels"][0]), E),
    ("spread", "half the bits of a channel", at("channels", 1, "bits_per_frame", value=1024), E),
    ("spread", "a channel of another tensor", at("channels", 1, "tensor", value="scores_QuantizeLinear_Output"), E),
    ("spread", "half the bits of a link", at("predicted", "links", "u280-0>u280-1", "bits_per_frame", value=1024), E),
    ("spread", "a link left out", lambda d: d["predicted"]["links"].pop("u280-1>u280-0"), E),
    ("spread", "a link idler than it is", idle, E),
    ("spread", "a die idler than it is", at("predicted", "dies", "u280-1/SLR1", "busy_permille", value=999), E),
    ("spread", "a host idler than it is", at("predicted", "host", "busy_permille", value=1), E),
    ("spread", "a LUT less", at("engines", 3, "resources", "lut", add=-1), E),
    ("spread", "a flip-flop more", at("engines", 3, "resources", "ff", add=1), E),
    ("spread", "a FIFO too few", lambda d: engine(d, "/add")["parameters"]["fifo_depths"].pop(), E),
    ("spread", "a FIFO of nothing", at("engines", 3, "parameters", "fifo_depths", 0, value=0), E),
    ("spread", "a FIFO in DRAM", at("engines", 3, "parameters", "fifo_memories", 0, value="external"), E),
    ("spread", "a deeper FIFO for nothing", deep, E),
    ("spread", "another rank", at("engines", 3, "rank", value=0), E),
    ("spread", "a quicker clock", at("engines", 3, "parameters", "clock_khz", value=400_000), E),
    ("spread", "a quicker host", at("host_segments", 0, "time_ns", value=5), E),
    ("spread", "another order", at("layers", 1, "slices", 0, "order", add=1), E),
    ("spread", "fewer cycles", at("layers", 1, "slices", 0, "cycles", add=-1), E),
    ("spread", "limited by what is quick", quick_one, E),
    ("spread", "proved with less than the plan", at("solver", "bound", add=-1), E),
    ("spread", "a bound above the plan", at("solver", "bound", value=10**6), E),
    ("spread", "copies that are not there", at("replicas", value=2), E),
    ("spread", "no die of the anchor", at("options", "anchors", value=[["/conv3", "u280-0/SLR2"]]), E),
    ("cut", "a part a row less", a_row_less, E),
    ("cut", "two parts of the same rows", overlapping, E),
    ("cut", "a part a column less", one_column_less, E),
    ("cut", "a part left out", lost, E),
    ("cut", "parts in another order", swapped, E),
    ("cut", "another cut than told", lambda d: parts(d).update(strategy="Pm=4"), E),
    ("cut", "no cut told", lambda d: parts(d).update(strategy="whole"), E),
    ("cut", "a cut by nothing", lambda d: parts(d).update(strategy="Pm=0"), E),
    ("cut", "a join that computes", lambda d: parts(d)["slices"][-1].update(role="full"), E),
    ("cut", "a part that requantises", lambda d: parts(d)["slices"][0].update(role="full"), E),
    ("cut", "block RAM more", at("engines", 0, "resources", "bram18", add=1), E),
    ("dram", "half the bytes of the banks", half_the_bytes, E),
    ("dram", "no banks", at("predicted", "banks", value={}), E),
    ("dram", "weights on the chip in one place", lambda d: piece(d, "/conv3").update(memory="lutram"), E),
    ("dram", "an interval a cycle less, all figures", lambda d: quicker(d, 1), E),
    ("copies", "an engine of the other copy", at("engines", 0, "replica", value=1), E),
    ("copies", "a slice of the other copy", at("layers", 0, "slices", 0, "replica", value=1), E),
    ("copies", "one copy more", at("replicas", value=3), E),
    ("copies", "a frame too quick", at("predicted", "fps", add=1), E),
    ("spread", "an anchor of one word", at("options", "anchors", value=[["/conv3"]]), E),
    ("spread", "times of the host that are none", at("options", "host_ns", value="fast"), E),
    ("dram", "weights in DRAM where none may stand", at("options", "memory", value="bram"), E),
    ("dram", "a memory that there is not", at("options", "memory", value="tape"), E),
    ("mixed", "no die of the anchor", at("options", "anchors", value=[["/conv3", "u280-0/SLR0"]]), E),
    ("mixed", "tasks that are none", at("predicted", "tasks", value=3), E),
    ("mixed", "a task of no cycles", at("predicted", "tasks", "/conv2#0", "steady_cycles", value="x"), E),
    ("mixed", "no frames a second", lambda d: d["predicted"].pop("fps"), E),
    ("mixed", "a slot too few", at("regions", 0, "bridges", 0, "frames", add=-1), E),
    ("mixed", "a bridge left out", lambda d: d["regions"][0]["bridges"].pop(), E),
    ("mixed", "a bridge of another layer", at("regions", 1, "bridges", 0, "layer", value="/conv1"), E),
    ("mixed", "a region without a layer", lambda d: d["regions"][1]["layers"].pop(), E),
    ("mixed", "regions that are one", lambda d: d["regions"][0]["layers"].extend(d["regions"].pop(1)["layers"]), E),
    ("mixed", "a quicker pace", at("regions", 1, "pace_ps", add=-1), E),
    ("mixed", "a shorter latency", at("regions", 1, "latency_ps", add=-1), E),
    ("mixed", "another stage", at("regions", 1, "stage", add=1), E),
    ("mixed", "PE that does not divide", lambda d: streaming(d)["fold"].update(pe=7), E),
    ("mixed", "both styles on a die", on_a_tiled_die, E),
    ("mixed", "crossings that are not there", at("predicted", "crossings", value={BOUNDARY: {"wires": 10}}), E),
    ("mixed", "a message dropped", lambda d: d["channels"].pop(0), E),
]  # fmt: skip


def codes(base: str, edit: Callable[[Document], Any], cluster: Cluster | None = None) -> set[str]:
    document = json.loads(text_of(base))
    edit(document)
    assert json.dumps(document) != json.dumps(json.loads(text_of(base))) or cluster is not None
    found = check_plan(parse_plan(json.dumps(document)), digits(), cluster or load_cluster(DEVICES[base]))
    return {f.code for f in found}


@pytest.mark.parametrize("base", DEVICES)
def test_the_plans_themselves_are_legal(base: str) -> None:
    assert codes(base, lambda d: None, load_cluster(DEVICES[base])) == set()


def test_an_anchor_that_is_kept_is_no_finding() -> None:
    for layer, place in (("/conv3", "u280-0/SLR2"), ("/conv3", "u280-0"), ("/conv2", "u280-0")):
        anchored = at("options", "anchors", value=[[layer, place]])
        assert codes("mixed", anchored) == set()


@pytest.mark.parametrize(("base", "edit", "code"), [pytest.param(b, e, c, id=f"{b}: {n}") for b, n, e, c in MUTANTS])
def test_what_is_told_wrongly_is_found(base: str, edit: Callable[[Document], Any], code: str) -> None:
    assert code in codes(base, edit)


ODD = (None, "x", "", 0, -1, 10**30, 1.5, [], {}, [1], ["a"], {"a": 1}, True, [[1, 2]], float("nan"), float("inf"))


def paths(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a document below its top."""
    for k, v in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*place, k)
        yield from paths(v, (*place, k))


@pytest.mark.parametrize("base", DEVICES)
def test_no_edit_ends_in_a_traceback(base: str) -> None:
    draw, whole = random.Random(base), json.loads(text_of(base))
    every = list(paths(whole))
    open_ones = [p for p in every if p[0] in ("options", "predicted") or "parameters" in p]
    cluster = load_cluster(DEVICES[base])
    for _ in range(60):
        document = json.loads(text_of(base))
        *path, last = draw.choice(draw.choice((every, open_ones)))
        target = document
        for k in path:
            target = target[k]
        target[last] = draw.choice(ODD)
        try:
            plan = parse_plan(json.dumps(document))
        except FvcError as refusal:
            assert refusal.code == "FVC280"
            continue
        assert {f.code for f in check_plan(plan, digits(), cluster)} <= {"FVC203", "FVC208", "FVC209", "FVC220"}


def board_of(cluster: Cluster, device: int, **changes: Any) -> Cluster:
    dev = cluster.devices[device]
    devices = list(cluster.devices)
    devices[device] = replace(dev, board=replace(dev.board, **changes))
    return replace(cluster, devices=tuple(devices))


def kinds(cluster: Cluster, device: int, die: int) -> Iterator[tuple[str, Cluster]]:
    """The cluster with a die that has nothing left of one kind of resource."""
    dies = cluster.devices[device].board.dies
    for kind in ("lut", "ff", "dsp"):
        less = replace(dies[die], raw=replace(dies[die].raw, **{kind: getattr(dies[die].shell, kind) + 3}))
        yield kind.upper(), board_of(cluster, device, dies=(*dies[:die], less, *dies[die + 1 :]))


def test_a_die_that_is_overfull_is_found_for_every_resource() -> None:
    """The same plan on a smaller die, and a layer moved to where there is no room."""
    cluster = load_cluster("u280x2")
    for kind, small in kinds(cluster, 1, 1):
        found = check_plan(parse_plan(text_of("spread")), digits(), small)
        assert [f.code for f in found] == ["FVC203"] and kind in found[0].what
    for _, small in kinds(cluster, 1, 2):
        assert codes("spread", lambda d: None, small) <= {"FVC203"}
        assert "FVC203" in codes("spread", lambda d: move(d, "/conv3", "u280-1", "SLR2", 1), small)


def test_a_boundary_with_too_few_wires_is_found() -> None:
    """Two streams of a byte a word pass between SLR0 and SLR1 each way, with valid and ready; one beyond."""
    cluster = board_of(load_cluster("u280x2"), 1, sll_wires=(19, 10))
    found = check_plan(parse_plan(text_of("spread")), digits(), cluster)
    assert [f.code for f in found] == ["FVC209", "FVC209"]
    assert all(any(way in f.what for f in found) for way in ("u280-1/SLR0>SLR1", "u280-1/SLR1>SLR0"))


def test_a_slower_network_makes_another_interval() -> None:
    """The plan's figures are those of its links too."""
    cluster = load_cluster("u280x2")
    slow = replace(cluster, links=tuple(replace(x, bits_per_second=10**7) for x in cluster.links))
    found = check_plan(parse_plan(text_of("spread")), digits(), slow)
    assert found and {f.code for f in found} == {"FVC220"} and any("interval" in "".join(f.where) for f in found)
