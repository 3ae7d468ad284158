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

from compiler.executor.accumulators import CHANNEL_AXIS
from compiler.executor.functions import Functions
from compiler.executor.host import Host, Segment
from compiler.executor.levels import Levels
from compiler.executor.machine import Machine
from compiler.executor.observe import AccumulatorHook, OutputPiece
from compiler.executor.reference import NodeInfo, Reference, expose_all
from compiler.executor.report import Accumulators, Mismatch, TensorResult, VerifyReport
from compiler.executor.stimulus import check_frame, made_inputs
from compiler.ir.graph import storage4
from compiler.ir.samples import load_samples
from compiler.isa.program import DeviceProgram

Array = NDArray[Any]
Progress = Callable[[int, int], None]
REFERENCE_BYTES = 1 << 30  # reference tensors held at once; more frames than fit run in further batches
SHOWN = 5  # mismatches listed for a tensor


class _Comparison:
    """Compares the pieces that engines store with the reference, and remembers which elements were seen.

    expected, sums: tensors and their accumulators, a dict each frame.
    """

    def __init__(
        self,
        expected: list[dict[str, Array]],
        sums: list[dict[str, Array]],
        results: dict[str, TensorResult],
        reference: Reference,
        functions: Functions | None,
    ) -> None:
        self.expected = expected
        self.sums = sums
        self.results = results
        self.requantised = reference.requantised
        self.functions = functions
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
            result.first += self._differences(piece, wrong, piece.values, wanted, SHOWN - len(result.first))
        if self.functions is not None:
            self.functions.add(piece, view.shape)
        if result.accumulators is not None:
            self._accumulators(piece, result.accumulators, view.shape)

    def _accumulators(self, piece: OutputPiece, result: Accumulators, shape: tuple[int, ...]) -> None:
        """Compares what the stored bytes were requantised from."""
        if piece.sums is None or piece.tensor not in self.sums[piece.frame]:
            return
        wanted = piece.place.select(self.sums[piece.frame][piece.tensor].reshape(shape))
        values, known = piece.sums.values.reshape(wanted.shape), piece.sums.known.reshape(wanted.shape)
        result.compared += int(np.count_nonzero(known))
        wrong = (values != wanted) & known
        count = int(np.count_nonzero(wrong))
        if count:
            result.mismatches += count
            node = self.requantised[piece.tensor]
            result.first += self._differences(piece, wrong, values, wanted, SHOWN - len(result.first), node)

    def _differences(
        self, piece: OutputPiece, wrong: Array, got: Array, wanted: Array, most: int, node: NodeInfo | None = None
    ) -> list[Mismatch]:
        """The first `most` elements that differ; for accumulators with the node that they are made by."""
        shape = self.expected[piece.frame][piece.tensor].shape
        where = piece.place.coordinates().reshape(4, -1)
        found = []
        for k in np.flatnonzero(wrong)[: max(0, most)]:
            at = np.ravel_multi_index(tuple(where[:, k]), storage4(shape))
            index = tuple(int(i) for i in np.unravel_index(at, shape))
            source = f"{piece.engine}, {piece.what}[{piece.index}]"
            channel = None
            if node is not None:
                made = self.expected[piece.frame][node.outputs[0]].shape
                channel = int(np.unravel_index(at, made)[CHANNEL_AXIS[node.op]])
            values = wanted.reshape(-1)[k].item(), got.reshape(-1)[k].item()
            found.append(Mismatch(piece.frame, index, *values, piece.node, source, channel=channel))
        return found


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
    stored = {row.tensor for p in programs for c in p.cores for row in c.debug if row.role == "output"}
    stored |= {row.tensor for p in programs if p.fabric for row in p.fabric.rows if row.role == "output"}
    reference = Reference(model, stored)
    if isinstance(samples, Path):
        samples = load_samples(
            samples, {name: (dtype.name, shape) for name, (dtype, shape) in reference.inputs.items()}
        )
    for frame in samples or []:
        check_frame(reference.inputs, frame)
    given = [(f"sample {k}", frame) for k, frame in enumerate(samples or [])]
    machine = Machine(programs)
    if machine.replicas > 1:  # frames are dealt out in turn: behind the two extremes each copy has a random one
        frames = max(frames, 2 + machine.replicas)
    stimuli = made_inputs(reference, max(2, frames - len(given)) if given else frames, seed) + given
    segments = [Segment(name, expose_all(m)) for name, m in sorted((host or {}).items())]
    results, order = _tensors(reference, stored, segments)
    report = VerifyReport(inputs=[name for name, _ in stimuli], tensors=order)
    levels = Levels(reference)

    done = 0
    while done < len(stimuli):
        batch: list[dict[str, Array]] = []
        expected: list[dict[str, Array]] = []
        sums: list[dict[str, Array]] = []
        held = 0
        while done + len(batch) < len(stimuli) and len(batch) < (in_flight or len(stimuli)):
            frame = stimuli[done + len(batch)][1]
            tensors, accumulated = reference.run_both(frame)
            size = sum(t.nbytes for t in (*tensors.values(), *accumulated.values()))
            batch.append(frame)
            expected.append(tensors)
            sums.append(accumulated)
            levels.add(tensors)
            held += size
            if held + size > REFERENCE_BYTES and (machine.replicas == 1 or len(batch) >= 2 + machine.replicas):
                break
        functions = None if done else Functions(reference, expected[0])
        compare = _Comparison(expected, sums, results, reference, functions)
        seen = machine.run_host(batch, segments, compare, order_seed, on_accumulator)
        if functions is not None:
            functions.prove(machine.makers, results)
        _count_engine(compare, results, done)
        _compare_host(seen, expected, reference, results, done)
        for op, n in machine.counters.instructions.items():
            report.instructions[op] = report.instructions.get(op, 0) + n
        report.macs += machine.counters.macs
        done += len(batch)
        if progress is not None:
            progress(done, len(stimuli))
    report.levels_seen, report.levels_possible = levels.seen, levels.possible
    report.settle()
    return report


def _tensors(
    reference: Reference, stored: set[str], segments: list[Segment]
) -> tuple[dict[str, TensorResult], list[TensorResult]]:
    """One result row for each tensor of the model, by how it is covered, in model order."""
    on_host = {name for s in segments for name in s.outputs}
    folded, constant = reference.table_indices(), reference.constant_tensors()
    twins = reference.same_bytes()
    made = {name for n in reference.nodes for name in n.outputs}
    results: dict[str, TensorResult] = {}
    for name in reference.tensors:
        if name not in made:
            continue
        if name in stored:
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
    for name in reference.requantised:
        if name in results and results[name].kind == "engine":
            results[name].accumulators = Accumulators()
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
                if result.accumulators is not None:
                    result.accumulators.wanted += size
            elif result.kind in ("constant", "index"):
                result.compared += size
    for result in results.values():
        for found in (result, result.accumulators):
            if found is not None:
                found.first = [m if m.batched else m.shifted(first) for m in found.first]


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
