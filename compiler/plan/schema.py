"""The JSON Schema of plan.json, made from the Plan's own dataclasses; published as plan.schema.json beside this."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compiler.plan.model import SCHEMA, Plan

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA_FILE = Path(__file__).with_name("plan.schema.json")


@cache
def adapter() -> TypeAdapter[Plan]:
    """The validator of plans; built once, because building it takes longer than most validations."""
    from pydantic import TypeAdapter

    return TypeAdapter(Plan)


def plan_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of a plan; objects with fixed fields admit no others."""
    schema = adapter().json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["schema"] = {"const": SCHEMA}
    for part in (schema, *schema.get("$defs", {}).values()):
        part.setdefault("additionalProperties", False)
    return schema


def schema_text() -> str:
    """What plan.schema.json must hold."""
    return json.dumps(plan_schema(), indent=2, sort_keys=True) + "\n"
