"""Whether the tensors of a model fit the memory of this machine, told before the work instead of by the kernel.

Needs an OnnxGraph with its types. Calibration and verification hold every tensor of a frame at once, and several
samples of the inputs: their sum is the least that a way through the compiler takes.
"""

from __future__ import annotations

from contextlib import suppress
from math import prod
from pathlib import Path

from compiler.frontend.onnxgraph import OnnxGraph, numpy_dtype
from device_db.errors import FvcError

INPUT_COPIES = 6  # the samples of a calibration, and their making
FOLD_LIMIT_ELEMENTS = 1 << 27  # a constant expression with a greater result is left to a host segment


def fits_memory(graph: OnnxGraph, where: str) -> None:
    """Raises FVC008 if the tensors of one frame need more bytes than are free."""
    sizes = {name: bytes_of(graph, name) for name in dict.fromkeys([*graph.inputs, *_made(graph)])}
    need = sum(sizes.values()) + (INPUT_COPIES - 1) * sum(sizes[name] for name in graph.inputs)
    free = free_bytes()
    if free is None or need <= free:
        return
    largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
    raise FvcError(
        "FVC008",
        f"the tensors of a frame and some samples of the inputs need {_gib(need)}, {_gib(free)} are free",
        where=(where, *(f"tensor '{name}': {_gib(sizes[name])}" for name in largest)),
        help=("give smaller shapes (--shape), or use a machine with more memory",),
    )


def bytes_of(graph: OnnxGraph, name: str) -> int:
    """Bytes of a tensor; 0 if its shape or type is not known."""
    shape, elem = graph.shape(name), graph.elem(name)
    if shape is None or not elem:
        return 0
    with suppress(KeyError, TypeError):
        return prod(shape) * numpy_dtype(elem).itemsize
    return 0


def _made(graph: OnnxGraph) -> list[str]:
    return [o for n in graph.nodes for o in n.outputs if o]


def free_bytes() -> int | None:
    """Memory that this process may still take, by /proc/meminfo and the control group; None where neither says."""
    found = []
    with suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):
        limit = int((group / "memory.max").read_text("ascii"))
        found.append(limit - int((group / "memory.current").read_text("ascii")))
    return min(found, default=None)


def _gib(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB"
