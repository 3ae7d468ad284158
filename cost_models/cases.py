"""`fvc cost CASES.jsonl`: one cost case in (a dict with the fields of the published tables), one result out.

Kinds of case: {"op", "attrs", "part"?} a streaming operator; {"Tm", "Tn", "M", "N", …} a tiled layer over FPGAs
(optional "S": stride); {"kind", "h", "t"} a recurrent layer on BW_S10; {"tm", "tn", "act_bytes", …} a tiled engine.
"""

from __future__ import annotations

from typing import Any

from cost_models.finn import DEFAULT_PART, CaseError, estimate
from cost_models.recurrent import BRAINWAVE, BW_S10, GATES, sequence_cycles
from cost_models.superlip import ConvShape, Design, superlip
from cost_models.tiled import engine_resources
from device_db.errors import FvcError

MODELS = ("fvc", "finn", "superlip")
RESULT = ("cycles", "lut", "ff", "bram18", "uram", "dsp")


def evaluate(case: dict[str, Any], model: str = "fvc") -> dict[str, Any]:
    """The result of one case: the keys of RESULT (None where the model says nothing), and `model`.

    FVC520 for a case that cannot be read or that the model does not cover.
    """
    if model not in MODELS:
        raise FvcError("FVC520", f"unknown cost model {model!r}", help=(f"one of {', '.join(MODELS)}",))
    if not isinstance(case, dict):
        raise FvcError("FVC520", f"a cost case is a JSON object, got {type(case).__name__}")
    try:
        if "op" in case:
            return _streaming(case, model)
        if "Tm" in case:
            return _tiled_layer(case, model)
        if "kind" in case:
            return _recurrent(case, model)
        if "tm" in case:
            return _engine(case, model)
    except CaseError as error:
        raise FvcError("FVC520", str(error)) from error
    raise FvcError("FVC520", "the case has neither op, Tm, kind nor tm", help=("see docs/cost-models.md",))


def _only(model: str, allowed: tuple[str, ...], what: str) -> None:
    if model not in allowed:
        raise CaseError(f"model {model} does not cover {what}; use {' or '.join(allowed)}")


def _result(model: str, **values: Any) -> dict[str, Any]:
    return {key: values.get(key) for key in RESULT} | {"model": model}


def _streaming(case: dict[str, Any], model: str) -> dict[str, Any]:
    _only(model, ("fvc", "finn"), "streaming operators")
    op, attrs, part = case["op"], case.get("attrs"), case.get("part", DEFAULT_PART)
    if not isinstance(op, str) or not isinstance(attrs, dict) or not isinstance(part, str):
        raise CaseError("a streaming case has op (text), attrs (object) and perhaps part (text)")
    e = estimate(op, attrs, part=part, model=model)
    return _result(model, cycles=e.cycles, lut=e.lut, ff=e.ff, bram18=e.bram18, uram=e.uram, dsp=e.dsp)


def _number(case: dict[str, Any], key: str, default: float | None = None, least: float = 1) -> Any:
    value = case.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < 1e15:
        raise CaseError(f"{key} must be a number of at least {least}, got {value!r}")
    return value


def _whole(case: dict[str, Any], key: str, default: int | None = None) -> int:
    value = _number(case, key, default)
    if value != int(value):
        raise CaseError(f"{key} must be a whole number, got {value!r}")
    return int(value)


def _tiled_layer(case: dict[str, Any], model: str) -> dict[str, Any]:
    _only(model, ("fvc", "superlip"), "tiled layers over FPGAs")
    b, m, n, r, c, k = (_whole(case, name) for name in ("B", "M", "N", "R", "C", "K"))
    layer = ConvShape(b, m, n, r, c, k, _whole(case, "S", 1))
    tile = [_whole(case, k) for k in ("Tm", "Tn", "Tr", "Tc")]
    ports = [_number(case, k, 1, least=1e-6) for k in ("Ip", "Wp", "Op", "Ap")]
    factors = [_whole(case, k, 1) for k in ("Pb", "Pr", "Pc", "Pm")]
    if _whole(case, "Pn", 1) > 1:
        raise CaseError("Pn is no factor of Super-LIP's model: it knows Pb, Pr, Pc and Pm")
    cost = superlip(
        layer, Design(tile[0], tile[1], tile[2], tile[3], ports[0], ports[1], ports[2], ports[3], *factors), model
    )
    out = _result(model, cycles=_plain(cost.cycles), bram18=cost.bram18, dsp=cost.dsp)
    return out | {"lat1": _plain(cost.lat1), "lat2": _plain(cost.lat2), "trips": cost.trips, "bound": cost.bound}


def _plain(x: float) -> float:
    """A whole float as an integer."""
    return int(x) if x == int(x) else x


def _recurrent(case: dict[str, Any], model: str) -> dict[str, Any]:
    _only(model, ("fvc",), "recurrent layers")
    if not isinstance(case["kind"], str) or case["kind"] not in GATES:
        raise CaseError(f"kind must be one of {', '.join(GATES)}, got {case['kind']!r}")
    h, t = _whole(case, "h"), _whole(case, "t")
    cycles = sequence_cycles(case["kind"], h, t, BRAINWAVE)
    low, high = BRAINWAVE.fitted_h
    out = _result(model, cycles=round(cycles))
    return out | {"ms": round(cycles / BW_S10.clock_khz, 6), "extrapolated": not (low <= h <= high and t >= 25)}


def _engine(case: dict[str, Any], model: str) -> dict[str, Any]:
    _only(model, ("fvc",), "tiled engines")
    sizes = ("tm", "tn", "act_bytes", "wgt_bytes", "acc_bytes", "tab_bytes", "ld_bytes_per_cycle", "st_bytes_per_cycle")
    has_uram = case.get("has_uram", True)
    if not isinstance(has_uram, bool):
        raise CaseError(f"has_uram is true or false, got {has_uram!r:.40}")
    r = engine_resources(
        *(_whole(case, k) for k in sizes),
        vector_lanes=_whole(case, "vector_lanes", 16),
        macs_per_dsp=_whole(case, "macs_per_dsp", 2),
        has_uram=has_uram,
    )
    return _result(model, lut=r.lut, ff=r.ff, bram18=r.bram18, uram=r.uram, dsp=r.dsp)
