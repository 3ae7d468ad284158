"""The host rank: feeds graph inputs, runs host segments when their inputs are there, collects outputs.

Dataflow by tensor name, frame by frame: a segment runs as soon as all it reads is known; a message to a core is sent
when its tensor is known and its channel has room, in the order of the message table of each channel.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.executor.channels import Fifo
from compiler.executor.faults import BAD_INPUT, HOST, ILLEGAL, MESSAGE, Fault, MachineError
from compiler.executor.memory import ELEMENT
from compiler.isa.program import DeviceProgram, HostMessage
from compiler.isa.table import HOST_RANK

Array = NDArray[Any]
_DTYPES = {"u8": "u1", "s8": "i1", "s16": "<i2", "i32": "<i4", "i64": "<i8"}
_ELEMENT = ELEMENT | {2: np.dtype("<u2")}  # netlists have messages of 16-bit integers too


def session(model: bytes) -> Any:
    """An ONNX Runtime session as every judge here uses it: no optimisation, one thread."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Segment:
    """One host segment: its name, what it reads and makes, and its session."""

    def __init__(self, name: str, model: bytes) -> None:
        self.name = name
        try:
            self.session = session(model)
        except Exception as error:  # onnxruntime has no common base class for its errors
            raise MachineError(HOST, f"host segment {name} cannot be loaded: {error}") from error
        self.inputs = tuple(i.name for i in self.session.get_inputs())
        self.outputs = tuple(o.name for o in self.session.get_outputs())

    def run(self, values: dict[str, Array]) -> dict[str, Array]:
        try:
            results = self.session.run(list(self.outputs), values)
        except Exception as error:
            raise MachineError(HOST, f"host segment {self.name} failed: {error}") from error
        return dict(zip(self.outputs, results, strict=True))


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy type of a dtype as HostMessage and Placement write it."""
    try:
        return np.dtype(_DTYPES.get(name, name))
    except TypeError as error:
        raise Fault(ILLEGAL, f"names the element type {name!r}") from error


def _windows(message: HostMessage, dense: Array) -> list[Array]:
    """The message's boxes as views of the dense tensor's bytes, one for each offset."""
    counts, strides, elem = message.counts, message.strides, message.elem
    if elem not in _ELEMENT or min(counts) < 1:
        raise Fault(ILLEGAL, f"host message of {message.tensor} has counts {counts} of {elem} bytes")
    for offset in message.offsets:
        reach = [(n - 1) * s for n, s in zip(counts, strides, strict=True)]
        low, high = offset + sum(min(r, 0) for r in reach), offset + sum(max(r, 0) for r in reach) + elem
        if low < 0 or high > dense.nbytes:
            raise Fault(MESSAGE, f"host message of {message.tensor} covers bytes [{low}, {high}) of {dense.nbytes}")
    return [np.ndarray(counts, _ELEMENT[elem], dense, o, strides) for o in message.offsets]


@dataclass(slots=True)
class _Incoming:
    """A tensor that arrives in pieces."""

    values: Array
    arrived: NDArray[np.bool_]  # a flag a byte


class Host:
    """The host rank of one run. `frames` are the users' frames; replica r has frames r, r+R, r+2R, …"""

    def __init__(
        self,
        programs: list[DeviceProgram],
        channels: dict[int, Fifo],
        segments: list[Segment],
        frames: list[dict[str, Array]],
        iterations: int,
    ) -> None:
        self.channels = channels
        self.segments = segments
        self.replicas = programs[0].replicas if programs else 1
        self.outputs = dict(programs[0].outputs) if programs else {}
        self.aliases = {k: v for p in programs for k, v in p.aliases.items()}
        self._twins: dict[str, list[str]] = {}  # root -> itself and its aliases
        for alias, (root, _) in sorted(self.aliases.items()):
            self._twins.setdefault(root, [root]).append(alias)
        self.values: list[dict[str, Array]] = [dict(f) for f in frames]
        self.pending: list[list[Segment]] = [list(segments) for _ in frames]
        self._incoming: dict[tuple[int, str], _Incoming] = {}
        self._script: dict[int, deque[tuple[HostMessage, int]]] = {}
        self._host_made = {o for s in segments for o in s.outputs}
        table = [m for p in programs for m in p.host]
        self.tensors = {m.tensor: (numpy_dtype(m.dtype), tuple(m.shape)) for m in table}
        for iteration in range(iterations):
            for message in table:
                local = iteration - message.stage
                frame = local * self.replicas + message.replica
                if local >= 0 and frame < len(frames):
                    self._script.setdefault(message.channel, deque()).append((message, frame))
        for message in {m.channel: m for m in table}.values():
            fifo = channels.get(message.channel)
            ends = (fifo.spec.source_rank, fifo.spec.target_rank) if fifo else (0, 0)
            if fifo is None or ends[0 if message.to_core else 1] != HOST_RANK:
                raise MachineError(
                    ILLEGAL,
                    f"host message of {message.tensor} names channel {message.channel}, which is none of the host's",
                )

    def advance(self) -> list[int]:
        """Does all that can be done now; returns the channels that were moved."""
        moved: list[int] = []
        while True:
            before = len(moved)
            for channel, script in self._script.items():
                while script and self._message(self.channels[channel], *script[0]):
                    script.popleft()
                    moved.append(channel)
            ran = sum(self._run_segments(frame) for frame in range(len(self.values)))
            if len(moved) == before and not ran:
                return moved

    def value(self, frame: int, name: str) -> Array | None:
        """A tensor of a frame if it or another shape of the same bytes is known."""
        values = self.values[frame]
        if name in values:
            return values[name]
        root, shape = self.aliases.get(name, (name, None))
        for twin in self._twins.get(root, ()):
            if twin in values:
                wanted = shape if shape is not None else self.tensors.get(name, (None, values[twin].shape))[1]
                return values[twin].reshape(wanted)
        return None

    def result(self, frame: int) -> dict[str, Array]:
        """The graph outputs of a frame; raises MachineError if one is not there."""
        out = {}
        for name, root in self.outputs.items():
            value = self.value(frame, name)
            value = self.value(frame, root) if value is None else value
            if value is None:
                raise MachineError(HOST, f"output {name} of frame {frame} never arrived at the host")
            out[name] = value
        return out

    def waiting(self) -> list[str]:
        """What the host still waits for, for the deadlock report."""
        lines = []
        for channel, script in self._script.items():
            if script:
                message, frame = script[0]
                if not message.to_core:
                    what = "no message"
                elif self.channels[channel].full:
                    what = "no room"
                else:
                    what = "the tensor is not known"
                lines.append(f"host: channel {channel}, {message.tensor}, frame {frame}: {what}")
        for frame, segments in enumerate(self.pending):
            for s in segments:
                missing = ", ".join(n for n in s.inputs if self.value(frame, n) is None)
                lines.append(f"host: segment {s.name}, frame {frame}: waits for {missing}")
        return lines

    @property
    def finished(self) -> bool:
        return not any(self._script.values()) and not any(self.pending)

    def _message(self, fifo: Fifo, message: HostMessage, frame: int) -> bool:
        if message.to_core:
            if fifo.full:
                return False
            value = self.value(frame, message.tensor)
            if value is None:
                return False
            dense = self._dense(message, value)
            fifo.send(message.tag, b"".join(w.tobytes() for w in _windows(message, dense)))
            return True
        if not fifo.messages:
            return False
        body = fifo.take(message.tag)
        key = (frame, message.tensor)
        dtype, shape = self.tensors[message.tensor]
        if key not in self._incoming:
            values = np.zeros(shape, dtype)
            self._incoming[key] = _Incoming(values, np.zeros(values.nbytes, np.bool_))
        piece = self._incoming[key]
        windows = _windows(message, piece.values)
        if len(body) != sum(w.nbytes for w in windows):
            raise Fault(
                MESSAGE,
                f"host takes {len(body)} bytes of {message.tensor} for a box of {sum(w.nbytes for w in windows)}",
            )
        at = 0
        for w, offset in zip(windows, message.offsets, strict=True):
            w[...] = np.frombuffer(body, w.dtype, w.size, at).reshape(w.shape)
            at += w.nbytes
            np.ndarray((*w.shape, w.itemsize), np.bool_, piece.arrived, offset, (*w.strides, 1))[...] = True
        if piece.arrived.all():
            self.values[frame][message.tensor] = piece.values
        return True

    def _dense(self, message: HostMessage, value: Array) -> Array:
        dtype, shape = self.tensors[message.tensor]
        if value.dtype != dtype or value.size != int(np.prod(shape, dtype=np.int64)):
            raise MachineError(
                BAD_INPUT,
                f"{message.tensor} is {value.dtype}{list(value.shape)}, the binaries want {dtype}{list(shape)}",
            )
        return np.ascontiguousarray(value)

    def _run_segments(self, frame: int) -> bool:
        ran = False
        for segment in list(self.pending[frame]):
            values = {name: self.value(frame, name) for name in segment.inputs}
            if all(v is not None for v in values.values()):
                self.values[frame].update(segment.run({k: v for k, v in values.items() if v is not None}))
                self.pending[frame].remove(segment)
                ran = True
        return ran
