"""The shipped example as a bundle, made once a process and board, for the tests that break it or read it back."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from compiler.frontend import ImportOptions, load_model
from compiler.ir.graph import Graph
from compiler.isa import write_device
from compiler.partition import partition
from compiler.partition.options import PartitionOptions
from compiler.schedule import schedule
from device_db import load_cluster

EXAMPLES = Path(__file__).parents[1] / "examples"


@cache
def digits() -> Graph:
    """examples/digits.onnx with its calibration, quantised per channel."""
    options = ImportOptions(calibrate=EXAMPLES / "digits_calibration.npz", per_channel=True)
    return load_model(EXAMPLES / "digits.onnx", options)


@cache
def make_bundle(devices: str) -> tuple[tuple[bytes, ...], dict[str, bytes]]:
    """Binaries and host segments of the example on the named cluster."""
    graph, cluster = digits(), load_cluster(devices)
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=2.0))
    files = tuple(write_device(p) for p in schedule(graph, plan, cluster))
    return files, {s.name: s.model for s in graph.host_segments}
