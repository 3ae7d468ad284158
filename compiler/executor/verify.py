"""Verification: the binaries of all devices against ONNX Runtime, element by element, tensor by tensor (Gate A).

Needs DevicePrograms as read from the container, host segments and model.int.onnx; guarantees that every element of
every tensor of the model was compared for every frame, or says which were not. It trusts no plan and no schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.executor.host import Host, Segment
from compiler.executor.machine import Machine
from compiler.executor.observe import AccumulatorHook, OutputPiece
from compiler.executor.reference import Reference, expose_all
from compiler.executor.report import Mismatch, TensorResult, VerifyReport
from compiler.executor.stimulus import check_frame, made_inputs
from compiler.ir.graph import storage4
from compiler.ir.samples import load_samples
from compiler.isa.program import DeviceProgram

Array = NDArray[Any]
Progress = Callable[[int, int], None]
REFERENCE_BYTES = 1 << 30  # reference tensors held at once; more frames than fit run in further batches
SHOWN = 5  # mismatches listed for a tensor
# Operators whose result levels show how much of the requantiser was exercised: op -> channel axis of the result.
_REQUANTISED = {"QLinearConv": 1, "QLinearGlobalAveragePool": 1, "QLinearMatMul": -1, "QGemm": -1}


class _Comparison:
    """Compares the pieces that engines store with the reference, and remembers which elements were seen."""

    def __init__(self, expected: list[dict[str, Array]], results: dict[str, TensorResult]) -> None:
        self.expected = expected
        self.results = results
        self.views: list[dict[str, Array]] = [{} for _ in expected]
        self.seen: list[dict[str, NDArray[np.bool_]]] = [{} for _ in expected]

    def __call__(self, piece: OutputPiece) -> None:
        if piece.tensor not in self.expected[piece.frame]:
            return
        view = self.views[piece.frame].get(piece.tensor)
        if view is None:
            value = np.ascontiguousarray(self.expected[piece.frame][piece.tensor])
            view = self.views[piece.frame][piece.tensor] = value.reshape(storage4(value.shape))
            self.seen[piece.frame][piece.tensor] = np.zeros(view.shape, np.bool_)
        wanted = piece.place.select(view)
        piece.place.mark(self.seen[piece.frame][piece.tensor])
        result = self.results[piece.tensor]
        result.engines.add(piece.engine)
        if piece.values.dtype != view.dtype:
            result.problem = f"stored as {piece.values.dtype}, the model has {view.dtype}"
        wrong = piece.values.reshape(wanted.shape) != wanted
        count = int(np.count_nonzero(wrong))
        if count:
            result.mismatches += count
            where = piece.place.coordinates().reshape(4, -1)
            for k in np.flatnonzero(wrong)[: max(0, SHOWN - len(result.first))]:
                at = np.ravel_multi_index(tuple(where[:, k]), view.shape)
                index = tuple(int(i) for i in np.unravel_index(at, self.expected[piece.frame][piece.tensor].shape))
                got, want = piece.values.reshape(-1)[k], wanted.reshape(-1)[k]
                source = f"{piece.engine}, ST[{piece.index}]"
                result.first.append(Mismatch(piece.frame, index, want.item(), got.item(), piece.node, source))


def verify_programs(
    programs: list[DeviceProgram],
    model: bytes,
    host: dict[str, bytes] | None = None,
    *,
    samples: Path | list[dict[str, Array]] | None = None,
    frames: int = 4,
    seed: int = 0,
    in_flight: int | None = None,
    order_seed: int | None = None,
    progress: Progress | None = None,
    on_accumulator: AccumulatorHook | None = None,
) -> VerifyReport:
    """Runs the binaries and compares every tensor of `model` (model.int.onnx).

    samples: an .npz file or frames to use beside the made ones (all-minimum, all-maximum, random), which fill up to
    `frames` and are at least the two extremes.
    in_flight: frames in one run (default: as many as REFERENCE_BYTES of reference tensors allow). progress(done, total)
    counts frames. Raises MachineError where a binary breaks a rule of the machine, FVC409 for inputs that do not fit.
    """
    reference = Reference(model)
    if isinstance(samples, Path):
        samples = load_samples(
            samples, {name: (dtype.name, shape) for name, (dtype, shape) in reference.inputs.items()}
        )
    for frame in samples or []:
        check_frame(reference.inputs, frame)
    given = [(f"sample {k}", frame) for k, frame in enumerate(samples or [])]
    stimuli = made_inputs(reference, max(2, frames - len(given)) if given else frames, seed) + given
    segments = [Segment(name, expose_all(m)) for name, m in sorted((host or {}).items())]
    machine = Machine(programs)
    results, order = _tensors(reference, programs, segments)
    report = VerifyReport(inputs=[name for name, _ in stimuli], tensors=order)
    levels: dict[str, NDArray[np.bool_]] = {}

    done = 0
    while done < len(stimuli):
        batch: list[dict[str, Array]] = []
        expected: list[dict[str, Array]] = []
        held = 0
        while done + len(batch) < len(stimuli) and len(batch) < (in_flight or len(stimuli)):
            frame = stimuli[done + len(batch)][1]
            tensors = reference.run(frame)
            size = sum(t.nbytes for t in tensors.values())
            batch.append(frame)
            expected.append(tensors)
            held += size
            if held + size > REFERENCE_BYTES:
                break
        compare = _Comparison(expected, results)
        seen = machine.run_host(batch, segments, compare, order_seed, on_accumulator)
        _count_engine(compare, results, done)
        _compare_host(seen, expected, reference, results, done)
        _count_levels(reference, expected, levels)
        for op, n in machine.counters.instructions.items():
            report.instructions[op] = report.instructions.get(op, 0) + n
        report.macs += machine.counters.macs
        done += len(batch)
        if progress is not None:
            progress(done, len(stimuli))
    report.levels_seen = sum(int(v.sum()) for v in levels.values())
    report.levels_possible = sum(v.size for v in levels.values())
    report.settle()
    return report


def _tensors(
    reference: Reference, programs: list[DeviceProgram], segments: list[Segment]
) -> tuple[dict[str, TensorResult], list[TensorResult]]:
    """One result row for each tensor of the model, by how it is covered, in model order."""
    rows = {row.tensor for p in programs for c in p.cores for row in c.debug if row.role == "output"}
    on_host = {name for s in segments for name in s.outputs}
    folded, constant = reference.table_indices(), reference.constant_tensors()
    twins = reference.same_bytes()
    made = {name for n in reference.nodes for name in n.outputs}
    results: dict[str, TensorResult] = {}
    for name in reference.tensors:
        if name not in made:
            continue
        if name in rows:
            kind = "engine"
        elif name in on_host:
            kind = "host"
        elif name in constant:
            kind = "constant"
        elif name in twins:
            kind = "alias"
        elif name in folded:
            kind = "index"
        else:
            kind = "missing"
        results[name] = TensorResult(name, kind)
    for result in results.values():
        if result.kind == "alias":
            root = next((t for t in twins[result.tensor] if t in reference.inputs or _made(results.get(t))), None)
            result.root, result.kind = root or "", "alias" if root else "missing"
    return results, list(results.values())


def _made(result: TensorResult | None) -> bool:
    return result is not None and result.kind in ("engine", "host", "constant")


def _count_engine(compare: _Comparison, results: dict[str, TensorResult], first: int) -> None:
    """Elements that engines stored, frame by frame; what is not there is missing coverage."""
    for number, tensors in enumerate(compare.expected):
        for name, result in results.items():
            size = tensors[name].size
            result.elements += size
            if result.kind == "engine":
                flags = compare.seen[number].get(name)
                result.compared += 0 if flags is None else int(np.count_nonzero(flags))
            elif result.kind in ("constant", "index"):
                result.compared += size
    for result in results.values():
        result.first = [m if m.batched else m.shifted(first) for m in result.first]


def _compare_host(
    host: Host, expected: list[dict[str, Array]], reference: Reference, results: dict[str, TensorResult], first: int
) -> None:
    """Tensors of host segments, aliases, and the graph outputs as users get them."""
    for number, tensors in enumerate(expected):
        for name, result in results.items():
            wanted = tensors[name]
            if result.kind == "host":
                value = host.value(number, name)
                if value is not None:
                    result.compared += wanted.size
                    _differ(result, value, wanted, first + number, "host")
            elif result.kind == "alias":
                root = tensors.get(result.root)
                root = host.values[number].get(result.root) if root is None else root
                if root is not None and root.tobytes() == wanted.tobytes():
                    result.compared += wanted.size
        outputs = host.result(number)
        for name in reference.outputs:
            output = results.setdefault(name, TensorResult(name, "output"))
            if name not in outputs:
                output.problem = "the binaries do not give this output"
            else:
                _differ(output, outputs[name], tensors[name], first + number, "output at the host")


def _differ(result: TensorResult, got: Array, wanted: Array, frame: int, source: str) -> None:
    """Adds the mismatches of a whole tensor; equal NaNs are equal."""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        found = f"{got.dtype}{list(got.shape)}, the model has {wanted.dtype}{list(wanted.shape)}"
        result.problem = f"{source} is {found}"
        return
    wrong = got != wanted
    if wanted.dtype.kind == "f":
        wrong &= ~(np.isnan(got) & np.isnan(wanted))
    result.mismatches += int(np.count_nonzero(wrong))
    for at in np.argwhere(wrong)[: max(0, SHOWN - len(result.first))]:
        index = tuple(int(i) for i in at)
        result.first.append(Mismatch(frame, index, wanted[index].item(), got[index].item(), "", source, True))


def _count_levels(reference: Reference, expected: list[dict[str, Array]], levels: dict[str, NDArray[np.bool_]]) -> None:
    """Which of the 256 result levels of each channel occurred: the share of requantiser steps exercised."""
    for n in reference.nodes:
        axis = _REQUANTISED.get(n.op)
        if axis is None:
            continue
        for tensors in expected:
            value = tensors[n.outputs[0]]
            if value.dtype.itemsize != 1 or value.ndim < 2:
                continue
            byte = np.moveaxis(value.view(np.uint8), axis, 0).reshape(value.shape[axis], -1)
            flat = byte.astype(np.int64) + 256 * np.arange(len(byte))[:, None]
            hit = np.bincount(flat.ravel(), minlength=256 * len(byte)).astype(np.bool_)
            known = levels.get(n.outputs[0])
            levels[n.outputs[0]] = hit if known is None else known | hit
