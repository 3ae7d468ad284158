"""cluster.json: the cluster as it was when the plan was made, whole, so that a bundle can be judged anywhere.

A SPEC would not do: it may name a file of the machine that compiled, or a board whose numbers have changed since.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from compiler.plan.io import canonical_json
from device_db.errors import FvcError
from device_db.model import Cluster

SCHEMA = "fvc.cluster-snapshot/1"


def write_cluster(cluster: Cluster) -> str:
    """The text of cluster.json; the numbers' sources stay in the device database."""
    devices = tuple(replace(d, board=replace(d.board, sources={})) for d in cluster.devices)
    return canonical_json({"schema": SCHEMA, "cluster": replace(cluster, devices=devices)})


def parse_cluster(text: str, where: str = "cluster.json") -> Cluster:
    """The cluster from JSON text. Raises FVC382."""
    from pydantic import TypeAdapter, ValidationError

    try:
        content: Any = json.loads(text)
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise FvcError("FVC382", f"this is no cluster of schema {SCHEMA}", where=(where,), help=("compile again",))
        return TypeAdapter(Cluster).validate_json(json.dumps(content.get("cluster")), strict=True)
    except (ValueError, RecursionError) as problem:
        first = problem.errors(include_url=False)[0] if isinstance(problem, ValidationError) else {"msg": str(problem)}
        raise FvcError(
            "FVC382", f"the cluster cannot be read: {first['msg']}", where=(where,), help=("compile again",)
        ) from None
