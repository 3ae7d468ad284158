"""Cost models against the published and peer-computed tables in tests/data (PROVENANCE.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models.cases import evaluate
from cost_models.recurrent import BRAINWAVE, fit, sequence_ms
from cost_models.superlip import fpga15_cycles, fpga15_optimum
from device_db.errors import FvcError

DATA = Path(__file__).parent.parent / "data"
PARTS = ("xcu250-figd2104-2L-e", "xczu7ev-ffvc1156-2-e", "xc7z020clg400-1", "xcvc1902-vsva2197-2MP-e-S")
FIELDS = ("cycles", "lut", "bram18", "uram", "dsp")


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


FINN = rows("finn_estimates.jsonl")


@pytest.mark.parametrize("op", sorted({r["op"] for r in FINN}))
def test_streaming_operators_equal_the_peer_to_the_last_digit(op: str) -> None:
    count = 0
    for row in (r for r in FINN if r["op"] == op):
        # A part that is not listed gives the U280's numbers (the table's README).
        parts = {row["part"]: {}} | {p: {} for p in PARTS} | row.get("other_parts", {})
        for part, differs in parts.items():
            want = {k: differs.get(k, row[k]) for k in FIELDS}
            got = evaluate({"op": op, "attrs": row["attrs"], "part": part}, "finn")
            assert {k: got[k] for k in FIELDS} == want, (part, row["attrs"])
            count += 1
    assert count >= 5 * 18


def test_odd_attributes_and_parts_equal_the_peer() -> None:
    """Attributes left at their defaults, folds of odd sizes, dynamic memories, Versal and small parts."""
    more = rows("finn_estimates_more.jsonl")
    for row in more:
        got = evaluate({k: row[k] for k in ("op", "attrs", "part")}, "finn")
        assert {k: got[k] for k in FIELDS} == {k: row[k] for k in FIELDS}, (row["part"], row["op"], row["attrs"])
        assert evaluate({k: row[k] for k in ("op", "attrs", "part")}, "fvc")["ff"] > 0
    assert len(more) > 250 and len({r["op"] for r in more}) > 30


def test_the_default_model_fills_the_peers_gaps_and_keeps_its_cycles() -> None:
    for row in FINN:
        case = {"op": row["op"], "attrs": row["attrs"]}
        ours = evaluate(case, "fvc")
        assert ours["ff"] > 0, row["op"]
        # Nothing is free hardware; only Versal float units are all DSP, and keep their handshake.
        assert ours["lut"] > 0, row["op"]
        if row["op"] == "LabelSelect_hls":
            assert ours["cycles"] >= row["cycles"]
        elif row["cycles"]:
            assert ours["cycles"] == row["cycles"], row["op"]
        else:
            assert ours["cycles"] > 0, row["op"]
        if row["op"].startswith("MVAU_hls") and row["attrs"]["mem_mode"] == "internal_embedded":
            assert not (ours["uram"] and ours["bram18"]), "the embedded memory is counted once"


def test_superlip_rows_are_equal() -> None:
    table = rows("superlip_xfer.jsonl")
    for row in table:
        got = evaluate(row, "superlip")
        for key in ("cycles", "lat1", "lat2", "trips", "bound"):
            assert got[key] == row[key], (key, row)
        assert (got["dsp"], got["bram18"]) == (row["dsp_float32"], row["bram18_float32"])
    assert len(table) > 300


def test_shared_weights_are_super_linear_where_they_bound() -> None:
    """AlexNet's conv3 on <64, 7, 7, 13> with two words a cycle, by hand: a tile's weights take 64*7*9/2 = 2,016 cycles,
    its products 9*7*13 = 819; 37 of them in each of 2*3 tiles. Two boards by rows: half the tiles, half the loads."""
    case = {"B": 1, "M": 192, "N": 256, "R": 13, "C": 13, "K": 3, "Tm": 64, "Tn": 7, "Tr": 7, "Tc": 13}
    case |= {"Ip": 2, "Wp": 2, "Op": 2, "Ap": 2}
    one, two = evaluate(case, "superlip"), evaluate(case | {"Pr": 2}, "superlip")
    assert one["cycles"] == 37 * 2016 * 6 and two["cycles"] == 37 * 1008 * 3
    # Computed at, the array is what is shared out: 2 boards, 2 times less. Link and fill stay in the default model.
    fast = case | {"Wp": 64, "Ap": 64}
    assert evaluate(fast, "superlip")["cycles"] == 2 * evaluate(fast | {"Pr": 2}, "superlip")["cycles"]
    assert 3.8 < evaluate(case)["cycles"] / evaluate(case | {"Pr": 2})["cycles"] < 4


def test_a_factor_that_the_model_has_not_is_refused() -> None:
    with pytest.raises(FvcError, match="Pn is no factor"):
        evaluate(rows("superlip_xfer.jsonl")[0] | {"Pn": 2}, "superlip")


def test_the_default_tiled_model_mends_the_known_faults() -> None:
    base = {"B": 1, "M": 64, "N": 64, "R": 56, "C": 56, "K": 3, "Tm": 64, "Tn": 8, "Tr": 14, "Tc": 14}
    base |= {"Ip": 2, "Wp": 64, "Op": 64, "Ap": 1}
    # The input tile has a halo: 8 * 16 * 16 words at 2 a cycle, over 9 * 14 * 14 compute cycles? compute is longer.
    one = evaluate(base)
    assert one["lat1"] == max(9 * 196, 8 * 16 * 16 // 2) == 1764
    # Stride 2 makes the tile (13*2+3)^2 and input-bound.
    assert evaluate(base | {"S": 2})["lat1"] == -(-8 * 29 * 29 // 2)
    # A ring of four carries three quarters of the shared input, the released model says one quarter.
    four = evaluate(base | {"Pm": 4, "Tm": 16, "Ap": 0.5})
    assert four["lat1"] == 8 * 16 * 16 * 3 / 4 / 0.5
    # Fill and drain: one tile more at the end.
    assert one["cycles"] == one["lat2"] * one["trips"] + one["lat1"] + 64 * 196 // 64
    # A tile larger than what there is costs what there is.
    assert evaluate(base | {"Tr": 100, "Tc": 100})["trips"] == 1


def test_fpga15_total_and_minima_are_exact() -> None:
    table = json.loads((DATA / "fpga15.json").read_text())
    total = 0
    for layer in table["layers"]:
        shape = (layer["M"], layer["N"], layer["R"], layer["C"], layer["K"])
        total += fpga15_cycles(*shape, 64, 7, layer["P_depth_term"])
        best, pairs = fpga15_optimum(*shape, layer["P_depth_term"], 480)
        assert best == layer["published_layer_optimum_cycles"] == table["published_values"][layer["layer"]]
        assert [list(p) for p in pairs] == layer["TmTn_pairs_reaching_it"]
    assert total == table["published_values"]["uniform_64_7_total"] == 1_008_246


BRAINWAVE_ROWS = json.loads((DATA / "brainwave.json").read_text())["rows"]


def test_brainwave_constants_are_the_fit_of_the_open_rows() -> None:
    terms = fit(BRAINWAVE_ROWS)
    assert terms.floor_cycles["GRU"] == pytest.approx(BRAINWAVE.floor_cycles["GRU"], abs=0.01)
    assert terms.floor_cycles["LSTM"] == pytest.approx(BRAINWAVE.floor_cycles["LSTM"], abs=0.01)
    assert terms.launch_cycles == pytest.approx(BRAINWAVE.launch_cycles, abs=0.01)
    assert terms.depth_cycles == pytest.approx(BRAINWAVE.depth_cycles, abs=0.01)


def test_brainwave_rows_left_out_of_the_fit_are_within_five_percent() -> None:
    judged = 0
    for row in BRAINWAVE_ROWS:
        if row["t"] < 25:
            continue
        terms = fit([r for r in BRAINWAVE_ROWS if r is not row])
        if terms.fitted_h[0] <= row["h"] <= terms.fitted_h[1]:
            predicted = sequence_ms(row["kind"], row["h"], row["t"], terms)
            assert abs(predicted / row["ms"] - 1) <= 0.05, row
            judged += 1
    assert judged >= 4


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FINN), st.data())
def test_spoiled_cases_never_crash(row: dict[str, Any], data: st.DataObject) -> None:
    """Any one attribute replaced by anything: a result or FVC520, nothing else."""
    attrs = dict(row["attrs"])
    key = data.draw(st.sampled_from(sorted(attrs)))
    odd = st.sampled_from([None, 0, -1, 1, 7, 10**30, 1.5, "", "INT999999", "UINT256", [], [0, 0], [1, 2, 3], {}, True])
    attrs[key] = data.draw(odd)
    for model in ("finn", "fvc"):
        try:
            out = evaluate({"op": row["op"], "attrs": attrs}, model)
        except FvcError as error:
            assert error.code == "FVC520"
        else:
            assert all(out[k] is None or out[k] >= 0 for k in (*FIELDS, "ff"))


@pytest.mark.parametrize(
    ("case", "model", "says"),
    [
        ({}, "fvc", "neither"),
        ({"op": "MVAU_hls"}, "fvc", "attrs"),
        ({"op": "Nothing_hls", "attrs": {}}, "finn", "unknown operator"),
        ({"op": "MVAU_hls", "attrs": {"MW": 10, "MH": 4, "PE": 3, "SIMD": 2}}, "finn", "does not divide"),
        ({"op": "Pool_hls", "attrs": {"Channels": "x", "PE": 1}}, "finn", "must be an integer"),
        ({"op": "MVAU_hls", "attrs": {}}, "superlip", "does not cover"),
        ({"Tm": 4}, "finn", "does not cover"),
        ({"Tm": 4, "B": -1}, "fvc", "B must be"),
        ({"kind": "RNN", "h": 4, "t": 1}, "fvc", "kind must be"),
        ([], "fvc", "JSON object"),
        ({"op": "Pool_hls", "attrs": {}}, "best", "unknown cost model"),
    ],
)
def test_bad_cases_say_what_is_wrong(case: Any, model: str, says: str) -> None:
    with pytest.raises(FvcError, match=says) as caught:
        evaluate(case, model)
    assert caught.value.code == "FVC520"
