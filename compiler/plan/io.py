"""plan.json at the file boundary: canonical text out, validated Plan in.

Canonical: UTF-8, sorted keys, one space of indentation, lists of plain values on one line, whole floats as integers,
one newline at the end. Equal plans give equal bytes, and a changed layer is a few changed lines.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from compiler.plan.model import SCHEMA, Plan
from device_db.errors import FvcError

_MAX_PROBLEMS = 5


def canonical_json(value: Any) -> str:
    """`value` (dataclasses, dicts, sequences, plain values) as canonical JSON text.

    Raises ValueError for NaN and infinity, TypeError for what JSON has no form of.
    """
    return _render(_plain(value), "") + "\n"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError("JSON has no form of NaN or infinity")
        return int(value) if value.is_integer() else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = (f for f in dataclasses.fields(value) if getattr(value, f.name) or f.metadata.get("unless") != "empty")
        return {f.name: _plain(getattr(value, f.name)) for f in kept}
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):  # a NumPy scalar
        return _plain(value.item())
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _render(value: Any, indent: str) -> str:
    inner = indent + " "
    if isinstance(value, dict) and value:
        rows = [f"{inner}{json.dumps(k, ensure_ascii=False)}: {_render(value[k], inner)}" for k in sorted(value)]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(v, (dict, list)) for v in value):
        return "[\n" + ",\n".join(inner + _render(v, inner) for v in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def write_plan(plan: Plan) -> str:
    """The text of plan.json."""
    return canonical_json(plan)


def find_plan(path: Path) -> Path:
    """The plan file of a bundle folder, or the file itself. Raises FVC380 for a folder without one."""
    if not path.is_dir():
        return path
    if not (path / "plan.json").is_file():
        raise FvcError(
            "FVC380", "the folder has no plan.json", where=(str(path),), help=("name a bundle or a plan file",)
        )
    return path / "plan.json"


def read_plan(path: Path) -> Plan:
    """Reads and validates a plan file. Raises FVC002 (not readable) and FVC280 (not a plan)."""
    try:
        text = path.read_text("utf-8")
    except OSError as problem:
        raise FvcError("FVC002", f"cannot read the plan: {problem.strerror}", where=(str(path),)) from None
    except UnicodeDecodeError:
        raise FvcError("FVC280", "the plan is not UTF-8 text", where=(str(path),)) from None
    return parse_plan(text, str(path))


def parse_plan(text: str, where: str = "plan.json") -> Plan:
    """A Plan from JSON text; raises FVC280 with the place of every (at most five) problem."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as problem:  # ValueError: also a number of thousands of digits
        raise FvcError("FVC280", f"the plan is not JSON: {problem}", where=(where,)) from None
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if schema != SCHEMA:
        raise FvcError(
            "FVC280",
            f"the plan's schema is {schema!r}, this fvc reads {SCHEMA!r}",
            where=(where,),
            help=("compile the model again with this version",),
        )
    from pydantic import ValidationError

    from compiler.plan.schema import adapter

    try:
        plan = adapter().validate_json(text, strict=True)
    except ValidationError as problem:
        problems = [f"{where}: {_path(e['loc'])}: {e['msg']}" for e in problem.errors(include_url=False)]
        raise _bad(problems) from None
    try:
        plain = _plain(plan)
    except ValueError as problem:
        raise _bad([f"{where}: {problem}"]) from None
    unknown = _unknown(raw, plain, "")
    if unknown:
        raise _bad([f"{where}: {place}: no such field" for place in unknown])
    return plan


def _bad(problems: list[str]) -> FvcError:
    more = len(problems) - _MAX_PROBLEMS
    shown = (*problems[:_MAX_PROBLEMS], *((f"and {more} more",) if more > 0 else ()))
    return FvcError(
        "FVC280", "the plan has fields that do not fit its schema", where=shown, help=("fvc explain FVC280",)
    )


def _path(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in location).lstrip(".") or "document"


def _unknown(raw: Any, known: Any, place: str) -> list[str]:
    """Places of keys in `raw` that the validated plan does not have: a misspelt field must not be lost silently."""
    if isinstance(raw, dict) and isinstance(known, dict):
        found = [f"{place}.{k}".lstrip(".") for k in sorted(raw.keys() - known.keys())]
        for k in sorted(raw.keys() & known.keys()):
            found += _unknown(raw[k], known[k], f"{place}.{k}")
        return found
    if isinstance(raw, list) and isinstance(known, list):
        return [f for k, (a, b) in enumerate(zip(raw, known, strict=False)) for f in _unknown(a, b, f"{place}[{k}]")]
    return []
