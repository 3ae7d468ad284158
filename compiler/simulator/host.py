"""The host as the timing sees it: one processor for the host segments, first come first served, and one DMA engine a
channel and direction.

Needs the host tables of the programs and what each segment reads, writes and takes. A message to a core leaves when
its tensor is there (graph inputs always are) and its channel has a credit; a segment starts when all it reads is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compiler.isa.program import DeviceProgram

# Stated default where no profile says more: a call into ONNX Runtime and a small tail (softmax, top-k).
DEFAULT_SEGMENT_PS = 50_000_000
# Frames of a tensor that the host keeps between a segment that makes it and whoever takes it.
HOST_FRAMES = 2


@dataclass(frozen=True, slots=True)
class HostTask:
    """One host segment: ONNX names that it reads and makes, and how long it takes a frame."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    time_ps: int = DEFAULT_SEGMENT_PS


def host_tasks(models: Mapping[str, bytes], profile: Mapping[str, int] | None = None) -> list[HostTask]:
    """HostTasks of a bundle's host/<name>.onnx files; `profile` gives nanoseconds by segment name.

    A segment that the profile does not name takes DEFAULT_SEGMENT_PS."""
    import onnx

    tasks = []
    for name, data in models.items():
        graph = onnx.load_model_from_string(data).graph
        constants = {i.name for i in graph.initializer}
        inputs = tuple(i.name for i in graph.input if i.name not in constants)
        time_ps = profile[name] * 1000 if profile and name in profile else DEFAULT_SEGMENT_PS
        tasks.append(HostTask(name, inputs, tuple(o.name for o in graph.output), time_ps))
    return tasks


def root_names(programs: Sequence[DeviceProgram]) -> dict[str, str]:
    """Alias or graph output -> the tensor whose bytes it is."""
    roots: dict[str, str] = {}
    for program in programs:
        roots.update({alias: root for alias, (root, _) in program.aliases.items()})
        roots.update(program.outputs)
    return roots


def root_of(name: str, roots: Mapping[str, str]) -> str:
    """The tensor that a name stands for, through aliases of aliases."""
    seen = set()
    while name in roots and name not in seen:
        seen.add(name)
        name = roots[name]
    return name
