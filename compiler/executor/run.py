"""Running programs: inputs in, graph outputs out under their ONNX names; the binaries and host segments are enough."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.executor.host import Segment, numpy_dtype
from compiler.executor.machine import Machine
from compiler.executor.stimulus import check_frame
from compiler.isa.program import DeviceProgram

Array = NDArray[Any]
_ORT_TYPES = {"float": "float32", "double": "float64", "bool": "bool"}  # others bear NumPy's names
Inputs = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


def _dtype(ort_type: str) -> np.dtype[Any]:
    """The NumPy type of "tensor(uint8)"."""
    inner = ort_type.removeprefix("tensor(").removesuffix(")")
    return np.dtype(_ORT_TYPES.get(inner, inner))


def graph_inputs(programs: list[DeviceProgram], segments: list[Segment]) -> Inputs:
    """What a user must give: what host segments and cores read and no segment and no core makes."""
    table = [m for p in programs for m in p.host]
    aliases = {k: v for p in programs for k, v in p.aliases.items()}
    outputs = {name for p in programs for name in p.outputs}

    def root(name: str) -> str:
        return aliases[name][0] if name in aliases else name

    made = {root(m.tensor) for m in table if not m.to_core} | {root(name) for s in segments for name in s.outputs}
    found: Inputs = {}
    for segment in segments:
        for i in segment.session.get_inputs():
            if root(i.name) not in made:
                found.setdefault(i.name, (_dtype(i.type), tuple(int(d) for d in i.shape)))
    named = {root(name) for name in found}
    for m in table:
        if not m.to_core or root(m.tensor) in made | named:
            continue
        # A graph input that an operator sees in another shape is an alias of what the cores call it.
        name, shape = next(
            ((k, s) for k, (r, s) in sorted(aliases.items()) if r == m.tensor and k not in outputs),
            (m.tensor, tuple(m.shape)),
        )
        found.setdefault(name, (numpy_dtype(m.dtype), shape))
    return found


def input_specs(programs: list[DeviceProgram], host: dict[str, bytes]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Graph inputs as (NumPy dtype name, shape), for reading sample files."""
    segments = [Segment(name, model) for name, model in sorted(host.items())]
    return {name: (dtype.name, shape) for name, (dtype, shape) in graph_inputs(programs, segments).items()}


def run_programs(
    programs: list[DeviceProgram], host: dict[str, bytes], frames: list[dict[str, Array]]
) -> list[dict[str, Array]]:
    """Graph outputs of each frame. Raises FVC409 for inputs that do not fit, MachineError for broken binaries."""
    segments = [Segment(name, model) for name, model in sorted(host.items())]
    inputs = graph_inputs(programs, segments)
    for frame in frames:
        check_frame(inputs, frame)
    return Machine(programs).run(frames, segments)
