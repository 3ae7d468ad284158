"""The shipped example as a bundle, made once a session and board."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from compiler.frontend import ImportOptions, load_model
from compiler.isa import write_device
from compiler.partition import partition
from compiler.partition.options import PartitionOptions
from compiler.schedule import schedule
from device_db import load_cluster

EXAMPLES = Path(__file__).parents[2] / "examples"


@cache
def make_bundle(devices: str) -> tuple[tuple[bytes, ...], dict[str, bytes]]:
    """Binaries and host segments of examples/digits.onnx."""
    options = ImportOptions(calibrate=EXAMPLES / "digits_calibration.npz")
    graph = load_model(EXAMPLES / "digits.onnx", options)
    cluster = load_cluster(devices)
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=2.0))
    files = tuple(write_device(p) for p in schedule(graph, plan, cluster))
    return files, {s.name: s.model for s in graph.host_segments}


@pytest.fixture(scope="session")
def bundle():
    return make_bundle
