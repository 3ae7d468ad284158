"""Vivado's utilisation report in place of estimates: what it overrides, and rows that it cannot have."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.finn.read import folds_from, nodes_from
from compiler.partition.measured import Measured, read_measured, with_clocks
from compiler.partition.options import PartitionOptions
from compiler.partition.vivado import read_rows, resources
from compiler.plan.model import Plan, ResourcePlan
from device_db import load_cluster
from device_db.errors import FvcError
from device_db.model import Resources
from tests.cli.commands import fvc
from tests.streaming.test_finn_files import CONV, FAST, WHOLE, conv, write

HEAD = "Instance,Module,Total LUTs,Logic LUTs,LUTRAMs,SRLs,FFs,RAMB36,RAMB18,URAM,DSP Blocks"


def report(folder: Path, *lines: str, head: str = HEAD) -> Path:
    return write(folder, "\n".join([head, *lines]) + "\n", "report.csv")


def read(folder: Path, path: Path) -> Measured:
    fold = write(folder, WHOLE)
    return read_measured(
        path, conv(), load_cluster("u280"), folds_from(conv(), fold, 1)[0], nodes_from(conv(), fold, 1)
    )


def planned(found: Measured, folder: Path) -> Plan:
    folds = folds_from(conv(), write(folder, WHOLE), 1)[0]
    options = PartitionOptions(style="streaming", host_ns=FAST, folds=folds, measured=found.layers)
    plan = partition(conv(), load_cluster("u280"), options)
    assert check_plan(plan, conv(), load_cluster("u280")) == []
    return plan


def taken(plan: Plan, layer: str) -> ResourcePlan:
    return next(e.resources for x, e in zip(plan.layers, plan.engines, strict=True) if x.name == layer)


def test_a_measured_layer_takes_what_was_measured_and_its_fifos(tmp_path: Path) -> None:
    """Two reports differ by 223 LUT, 12 FF, 2·1 + 2 BRAM18, 4 URAM and 3 DSP, so do the engines."""
    a = read(tmp_path, report(tmp_path, "n35_Conv,c,777,0,0,0,88,2,1,0,3"))
    assert a.layers == (("n35_Conv", 3, 2, "", "hls", 777, 88, 5, 0, 3),)
    b = read(tmp_path, report(tmp_path, "n35_Conv,c,1000,0,0,0,100,3,3,4,6"))
    x, y = taken(planned(a, tmp_path), "n35_Conv"), taken(planned(b, tmp_path), "n35_Conv")
    assert (y.lut - x.lut, y.ff - x.ff, y.bram18 - x.bram18, y.uram - x.uram, y.dsp - x.dsp) == (223, 12, 4, 4, 3)
    assert 777 <= x.lut < 777 + 200 and x.dsp == 3


def test_nodes_by_finns_names_in_a_hierarchy(tmp_path: Path) -> None:
    """Wrappers and the parts of a node are passed over; what was not measured of a layer stays estimated."""
    whole = read(
        tmp_path,
        report(
            tmp_path,
            "finn_design_wrapper,(top),99999,0,0,0,99999,9,9,0,9",
            "  (finn_design_wrapper),x,1,0,0,0,1,0,0,0,0",
            "  sdp_1_MVAU_hls_1,m,500,0,0,0,600,1,0,0,2",
            "    MVAU_hls_1,inner,400,0,0,0,500,1,0,0,2",
            "  sdp_1_Thresholding_rtl_0,t,7,0,0,0,7,0,0,0,0",
            "  sdp_1_StreamingFIFO_rtl_3,f,50,0,0,0,60,0,0,0,0",
        ),
    )
    ((layer, pe, simd, _, variant, lut, ff, bram, _, dsp),) = whole.layers
    assert (layer, pe, simd, variant) == ("n35_Conv", 3, 2, "hls")
    assert lut > 500 and ff > 600 and (bram, dsp) == (2, 2)  # and thresholds as estimated: no memory, no DSP
    assert planned(whole, tmp_path).options["measured"] == [list(whole.layers[0])]


def test_measured_figures_of_a_plan_are_judged(tmp_path: Path) -> None:
    plan = planned(read(tmp_path, report(tmp_path, "n35_Conv,c,777,0,0,0,88,2,1,0,3")), tmp_path)
    row = list(plan.options["measured"][0])
    for bad in ([*row[:5], 778, *row[6:]], row[:-1], [*row[:-1], "3"]):
        edited = replace(plan, options=plan.options | {"measured": [bad]})
        assert check_plan(edited, conv(), load_cluster("u280"))


def test_more_than_the_die_has_does_not_fit(tmp_path: Path) -> None:
    found = read(tmp_path, report(tmp_path, "n35_Conv,c,9000000,0,0,0,88,2,1,0,3"))
    with pytest.raises(FvcError) as caught:
        planned(found, tmp_path)
    assert (caught.value.code, caught.value.exit_code) == ("FVC203", 1)


def test_clocks_of_devices_and_dies(tmp_path: Path) -> None:
    path = report(tmp_path, "*,200", "u280-0/SLR2,150.5", head="Instance,Clock MHz")
    found = read(tmp_path, path)
    assert found.clocks_khz == {"u280-0/SLR0": 200_000, "u280-0/SLR1": 200_000, "u280-0/SLR2": 150_500}
    cluster = with_clocks(load_cluster("u280"), found.clocks_khz)
    assert [d.clock_khz for d in cluster.devices[0].board.dies] == [200_000, 200_000, 150_500]


def test_the_command_takes_report_and_folds_together(tmp_path: Path) -> None:
    path = report(tmp_path, "n35_Conv,c,777,0,0,0,88,2,1,0,3,", "*,,,,,,,,,,,100", head=HEAD + ",Clock MHz")
    out, fold = tmp_path / "b", write(tmp_path, WHOLE)
    streaming = ("partition", CONV, "--devices", "u280", "-o", out, "--style", "streaming", "--measured", path)
    assert fvc(*streaming).error_code == "FVC282" and not out.exists()  # at which fold?
    found = fvc(*streaming, "--fold-from", fold)
    assert found.code == 0, found.err
    plan = json.loads((out / "plan.json").read_text())
    assert {e["parameters"]["clock_khz"] for e in plan["engines"]} == {100_000}
    assert plan["options"]["measured"][0][0] == "n35_Conv" and plan["predicted"]["clock_mhz"] == 100
    assert fvc("check", out).code == 0 and fvc("verify", out, "--frames", "1").code == 0


# One report as Vivado's forms of it: 1234 LUT, 2345 FF, 3 tiles and a half, 1 URAM, 4 DSP of the last layer.
PRINTED = """\
| Tool Version : Vivado v.2022.1 (lin64)
| Command      : report_utilization -hierarchical -hierarchical_percentages

+-------------------------+--------+--------------+--------------+----------+----------+----------+------------+
|         Instance        | Module |  Total LUTs  |     FFs      |  RAMB36  |  RAMB18  |   URAM   | DSP Blocks |
+-------------------------+--------+--------------+--------------+----------+----------+----------+------------+
| finn_design_wrapper     |  (top) | 99999(7.67%) | 88888(9.99%) | 9(0.45%) | 2(0.05%) | 1(0.10%) |   5(0.05%) |
|   (finn_design_wrapper) |  (top) |    1(<0.01%) |     1(0.00%) | 0(0.00%) | 0(0.00%) | 0(0.00%) |   0(0.00%) |
|   MVAU_hls_1            |   m    |  1234(0.09%) |  2345(0.09%) | 3(0.15%) | 1(0.02%) | 1(0.10%) |   4(0.04%) |
|     inst                |   n    |  1000(0.09%) |  2345(0.09%) | 3(0.15%) | 1(0.02%) | 1(0.10%) |   4(0.04%) |
+-------------------------+--------+--------------+--------------+----------+----------+----------+------------+
* Note: The sum of lower-level cells may be larger than their parent cells total
"""
GUI = """\
Name,"CLB LUTs
(1303680)",CLB Registers (2607360),CARRY8 (162960),Block RAM Tile (2016),URAM (960),"DSPs (9,024)"
N finn_design_wrapper (top),"99,999",88,1,9,1,5
  I sdp_MVAU_hls_1 (m),"1,234","2,345",7,3.5,1,4
"""
JOINED = "Instance;LUT;LUT %;FF;BRAM_36K;BRAM_18K;URAM;DSP48\nMVAU_hls_1;1234;0.09;2345;3;1;1;4\n"
HALVES = "Name\tLUT\tFF\tBRAM_18K\tURAM\tDSP\nMVAU_hls_1\t1234\t2345\t7\t1\t4\n"


@pytest.mark.parametrize("text", [PRINTED, GUI, JOINED, HALVES], ids=["printed", "gui", "joined", "halves"])
def test_every_form_of_the_report_says_the_same(text: str, tmp_path: Path) -> None:
    rows = [r for r in read_rows(write(tmp_path, text, "r.rpt")) if "MVAU_hls_1" in r.name]
    assert resources(tmp_path, rows[0]) == Resources(1234, 2345, 7, 1, 4)
    plain = read(tmp_path, report(tmp_path, "MVAU_hls_1,c,1234,0,0,0,2345,3,1,1,4"))
    assert read(tmp_path, write(tmp_path, text, "r.rpt")) == plain


BAD = [
    ("", [], None),
    ("Instance,LUT,LUTs,FFs,RAMB36,RAMB18,DSPs", ["n35_Conv,1,1,1,1,1,1"], 1),
    ("Instance,LUTs,FFs,RAMB36,Block RAM Tile,DSPs", ["n35_Conv,1,1,1,1.25,1"], 2),
    (HEAD, ['n35_Conv,c,"1,23",0,0,0,88,2,1,0,3'], 2),
    (HEAD, ["n35_Conv,c,7(x%),0,0,0,88,2,1,0,3"], 2),
    (HEAD.replace(",", "|"), ["n35_Conv|c|7|0|0|0|88|2|1|0|3"], None),
    ("Module,Total LUTs,FFs", ["a,1,2"], None),
    ("Instance,Total LUTs,FFs", ["n35_Conv,1,2"], 1),
    ("Instance,Module", ["n35_Conv,1"], 1),
    ("Instance,LUTs,FFs,RAMB36,DSPs", ["n35_Conv,1,1,1,1"], 1),
    ("Instance,LUTs,CLB LUTs,FFs,Block RAM Tile,DSPs", ["n35_Conv,1,1,1,1,1"], 1),
    (HEAD, ["other,c,1,0,0,0,1,0,0,0,0", "n35_Conv,c,7x,0,0,0,88,2,1,0,3"], 3),
    (HEAD, ["n35_Conv,c,-7,0,0,0,88,2,1,0,3"], 2),
    (HEAD, ["n35_Conv,c,7.5,0,0,0,88,2,1,0,3"], 2),
    (HEAD, ["n35_Conv,c,,0,0,0,88,2,1,0,3"], 2),
    (HEAD, ["n35_Conv,c,99999999999,0,0,0,88,2,1,0,3"], 2),
    (HEAD, ["n35_Conv,c,7,0,0"], 2),
    (HEAD, ["n35_Conv,c,1,0,0,0,1,0,0,0,0", "n35_Conv,c,1,0,0,0,1,0,0,0,0"], 3),
    (HEAD, ["n35_Conv,c,1,0,0,0,1,0,0,0,0", "MVAU_hls_1,c,1,0,0,0,1,0,0,0,0"], 3),
    (HEAD, ["other,c,1,0,0,0,1,0,0,0,0"], 2),
    (HEAD, [], None),
    ("Instance,Clock MHz", ["u280-7,300"], 2),
    ("Instance,Clock MHz", ["u280-0,300 MHz"], 2),
    ("Instance,Clock MHz", ["u280-0,0"], 2),
    ("Instance,Clock MHz", ["*,nan"], 2),
]


@pytest.mark.parametrize("head, lines, line", BAD, ids=range(len(BAD)))
def test_bad_rows_are_named_by_their_line(head: str, lines: list[str], line: int | None, tmp_path: Path) -> None:
    path = report(tmp_path, *lines, head=head)
    with pytest.raises(FvcError) as caught:
        read(tmp_path, path)
    assert (caught.value.code, caught.value.exit_code) == ("FVC282", 2)
    assert caught.value.where == (str(path) if line is None else f"{path}:{line}",)


def test_no_text_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(b"\xff\xfe\x00")
    for at, code in ((path, "FVC282"), (tmp_path / "none.csv", "FVC002"), (tmp_path, "FVC002")):
        with pytest.raises(FvcError) as caught:
            read(tmp_path, at)
        assert caught.value.code == code
