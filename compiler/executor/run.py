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
    made = {m.tensor for m in table if not m.to_core} | {name for s in segments for name in s.outputs}
    aliases = {k: v for p in programs for k, v in p.aliases.items()}
    made |= {name for name, (root, _) in aliases.items() if root in made}
    found: Inputs = {}
    for segment in segments:
        for i in segment.session.get_inputs():
            if i.name not in made and aliases.get(i.name, (i.name,))[0] == i.name:
                shape = tuple(int(d) if isinstance(d, int) else 0 for d in i.shape)
                found.setdefault(i.name, (_dtype(i.type), shape))
    for m in table:
        if m.to_core and m.tensor not in made:
            found.setdefault(m.tensor, (numpy_dtype(m.dtype), tuple(m.shape)))
    for name, (root, shape) in aliases.items():
        if root in found and name in {i for s in segments for i in s.inputs}:
            found.setdefault(root, (found[root][0], shape))
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
