"""Runs the netlists of all devices frame by frame: a unit fires when a frame stands on each of its inputs.

Whatever order frames take (`order_seed`), streams keep theirs, so the results must be the same. FIFO bounds are words
within a frame and the static checker's matter; here every stream may hold frames as long as its readers are behind.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.executor.channels import Fifo
from compiler.executor.faults import DEADLOCK, ILLEGAL, MESSAGE, Fault, MachineError
from compiler.executor.host import Host, numpy_dtype
from compiler.executor.memory import Sums
from compiler.executor.observe import OutputHook, OutputPiece, Place
from compiler.executor.stream.kernels import Kernel, kernel, value_range
from compiler.ir.graph import storage4
from compiler.isa.program import DeviceProgram, Instruction
from compiler.isa.stream.copies import copies_of
from compiler.isa.stream.ports import Illegal, container_bytes, ports
from compiler.isa.stream.program import Fabric, UnitRow
from compiler.isa.stream.table import BRIDGES

Array = NDArray[Any]
REQUANTISERS = ("REQ", "THR")
MOST_FRAMES = 2  # frames that a unit may be ahead of its slowest reader


@dataclass(slots=True)
class Unit:
    """One unit with its streams: queues of frames."""

    number: int
    ins: Instruction
    row: UnitRow
    run: Kernel | None
    copy: int  # of the net
    frames: int  # that it has to do
    inputs: list[deque[Array]] = field(default_factory=list)
    outputs: list[deque[Array]] = field(default_factory=list)
    limits: list[tuple[int, int]] = field(default_factory=list)  # value range of each output
    fifo: Fifo | None = None
    bridge: Bridge | None = None
    done: int = 0


@dataclass(slots=True)
class Bridge:
    """A frame buffer between messages and a stream: tensors n, c, h, w by frame."""

    shape: tuple[int, int, int, int]
    kind: np.dtype[Any]
    slots: int
    frames: dict[int, Array] = field(default_factory=dict)
    missing: dict[int, int] = field(default_factory=dict)  # messages still to come, or still to leave
    messages: int = 0  # a frame


class FabricRun:
    """One fabric in a run."""

    def __init__(
        self,
        device: str,
        fabric: Fabric,
        channels: dict[int, Fifo],
        hook: OutputHook | None,
        frames: int,
        copies: list[int],
        replicas: int,
    ) -> None:
        """frames: of the user; copies: a copy of the net a unit, of `replicas` that frames are dealt out to in turn."""
        self.device, self.fabric, self.hook, self.frames = device, fabric, hook, frames
        self.copies, self.replicas = copies, replicas
        self.units: list[Unit] = []
        self.macs = 0
        slots: dict[int, dict[int, bytes]] = {}
        for p in fabric.preloads():
            f = p.fields
            slots.setdefault(f["unit"], {})[f["slot"]] = fabric.constants[f["offset"] : f["offset"] + f["bytes"]]
        self._banks(slots)
        for number, ins in enumerate(fabric.units()):
            try:
                self.units.append(self._unit(number, ins, slots.get(number, {}), channels))
            except (Fault, Illegal) as problem:
                raise self._error(number, ILLEGAL, str(problem)) from problem
            except (KeyError, ValueError) as problem:
                raise self._error(
                    number, ILLEGAL, f"lacks a memory or has one of another size ({problem})"
                ) from problem
        for con in fabric.streams():
            f = con.fields
            try:
                if f["source"] < 0 or f["target"] < 0:
                    raise IndexError
                queue: deque[Array] = deque()
                self.units[f["source"]].outputs[f["source_port"]] = queue
                self.units[f["target"]].inputs[f["target_port"]] = queue
            except IndexError:
                raise self._error(f["source"], ILLEGAL, "a stream ends at a port that is not there") from None

    def _banks(self, slots: dict[int, dict[int, bytes]]) -> None:
        """Preloads of MEM go into its bank, and what it reads is what then lies there."""
        written: dict[int, list[tuple[int, bytes]]] = {}
        reads = [(k, u.fields) for k, u in enumerate(self.fabric.units()) if u.op == "MEM"]
        for k, f in reads:
            body = slots.get(k, {}).get(0, b"")
            if f["bank"] >= len(self.fabric.banks):
                raise MachineError(ILLEGAL, f"names memory bank {f['bank']}, which is not there", where=(self.device,))
            if f["address"] + len(body) > self.fabric.banks[f["bank"]].capacity_bytes:
                raise MachineError(ILLEGAL, f"unit {k} reads beyond its memory bank", where=(self.device,))
            written.setdefault(f["bank"], []).append((f["address"], body))
        for k, f in reads:
            start, size = f["address"], len(slots.get(k, {}).get(0, b""))
            lies = bytearray(size)
            for at, body in written[f["bank"]]:
                low, high = max(at, start), min(at + len(body), start + size)
                if low < high:
                    lies[low - start : high - start] = body[low - at : high - at]
            if size:
                slots[k][0] = bytes(lies)

    def _unit(self, number: int, ins: Instruction, slots: dict[int, bytes], channels: dict[int, Fifo]) -> Unit:
        p = ports(ins)
        row = self.fabric.rows[number] if number < len(self.fabric.rows) else UnitRow("", "", "", "", "", ())
        boundary = ins.op in ("SRC", "SNK", *BRIDGES)
        copy = self.copies[number]
        frames = len(range(copy, self.frames, self.replicas))
        unit = Unit(number, ins, row, None if boundary else kernel(ins, slots), copy, frames)
        unit.inputs = [deque() for _ in p.inputs]
        unit.outputs = [deque() for _ in p.outputs]
        unit.limits = [value_range(q.bits, q.signed) for q in p.outputs]
        if ins.op in BRIDGES:
            f = ins.fields
            kind = np.dtype(f"<{'i' if f['signed'] else 'u'}{container_bytes(f['bits'])}")
            own = sum(m.fields["unit"] == number for m in self.fabric.messages())
            shape = (f["images"], f["channels"], f["in_h"], f["in_w"])
            unit.bridge = Bridge(shape, kind, f["frames"], messages=own)
        elif boundary:
            unit.fifo = channels.get(ins.fields["channel"])
            if unit.fifo is None:
                raise Fault(ILLEGAL, f"names channel {ins.fields['channel']}, which is not there")
            ends = (ins.fields["rank"], self.fabric.rank)
            unit.fifo.end(*(ends if ins.op == "SRC" else ends[::-1]))
        if ins.op in ("MVAU", "VVAU"):
            f = ins.fields
            self.macs += (
                frames
                * f["pixels"]
                * (f["groups"] * f["mh"] * f["mw"] if ins.op == "MVAU" else f["channels"] * f["taps"])
            )
        return unit

    def step(self, unit: Unit) -> bool:
        """Fires a unit once if it can."""
        if unit.done >= unit.frames or not all(unit.inputs):
            return False
        if any(len(q) >= MOST_FRAMES for q in unit.outputs):
            return False
        try:
            if unit.ins.op == "BRI":
                b = unit.bridge
                assert b is not None
                if b.missing.get(unit.done, 1):
                    return False
                del b.missing[unit.done]
                outputs = [np.ascontiguousarray(b.frames.pop(unit.done).transpose(0, 2, 3, 1)).reshape(-1)]
            elif unit.ins.op == "BRO":
                b = unit.bridge
                assert b is not None
                if len(b.frames) >= b.slots:
                    return False
                n, c, h, w = b.shape
                value = unit.inputs[0].popleft()
                if value.size != n * c * h * w:
                    raise Fault(ILLEGAL, f"has {value.size} elements for a tensor {list(b.shape)}")
                b.frames[unit.done] = value.reshape(n, h, w, c).transpose(0, 3, 1, 2).astype(b.kind)
                b.missing[unit.done] = b.messages
                outputs = []
            elif unit.ins.op == "SRC":
                assert unit.fifo is not None
                if not unit.fifo.messages:
                    return False
                outputs = [self._take(unit.ins.fields, unit.fifo.take(unit.ins.fields["tag"]))]
            elif unit.ins.op == "SNK":
                assert unit.fifo is not None
                if unit.fifo.full:
                    return False
                unit.fifo.send(unit.ins.fields["tag"], self._message(unit.ins.fields, unit.inputs[0].popleft()))
                outputs = []
            else:
                assert unit.run is not None
                inputs = [q.popleft() for q in unit.inputs]
                outputs = unit.run(inputs)
            for value, (low, high), queue in zip(outputs, unit.limits, unit.outputs, strict=True):
                seen = value[:1] if value.ndim > 1 and not value.strides[0] else value  # turns are one memory
                if seen.size and (int(seen.min()) < low or int(seen.max()) > high):
                    raise Fault(ILLEGAL, f"gives values {int(seen.min())}..{int(seen.max())} beyond {low}..{high}")
                queue.append(value)
        except Fault as fault:
            raise self._error(unit.number, fault.code, fault.what, self.user(unit)) from fault
        if self.hook is not None and unit.row.role in ("output", "piece"):
            self._observe(unit, outputs[0], inputs[0] if unit.ins.op in REQUANTISERS else None)
        unit.done += 1
        return True

    def user(self, unit: Unit) -> int:
        """The user's number of the frame that a unit works on."""
        return unit.done * self.replicas + unit.copy

    @staticmethod
    def _take(f: dict[str, int], body: bytes) -> Array:
        if len(body) != f["bytes"]:
            raise Fault(MESSAGE, f"takes a message of {len(body)} bytes for a frame of {f['bytes']}")
        kind = np.dtype(f"<{'i' if f['signed'] else 'u'}{container_bytes(f['bits'])}")
        return np.frombuffer(body, kind).astype(np.int64)

    @staticmethod
    def _message(f: dict[str, int], values: Array) -> bytes:
        kind = np.dtype(f"<{'i' if f['signed'] else 'u'}{container_bytes(f['bits'])}")
        return values.astype(kind).tobytes()

    def _observe(self, unit: Unit, values: Array, sums: Array | None) -> None:
        """The stream as the tensor, or a box of it, lies in memory; with the accumulators it was made of."""
        assert self.hook is not None
        row = unit.row
        box = row.box or tuple(v for size in storage4(row.shape) for v in (0, size))
        sizes = [b - a for a, b in zip(box[0::2], box[1::2], strict=True)]
        axes = row.axes or (0, 1, 2, 3)
        n, c, h, w = (sizes[a] for a in axes)
        if values.size != n * c * h * w:
            raise self._error(unit.number, ILLEGAL, f"gives {values.size} elements of {row.tensor}{list(row.shape)}")
        back = tuple(int(k) for k in np.argsort(axes))

        def stored(stream: Array, kind: np.dtype[Any]) -> Array:
            dense = stream.reshape(n, h, w, c).transpose(0, 3, 1, 2).transpose(back).astype(kind)
            return np.ascontiguousarray(dense).reshape(1, 1, -1)

        known = None
        if sums is not None:
            acc = stored(sums, np.dtype(np.int64 if unit.ins.fields["x_bits"] > 32 else np.int32))
            known = Sums(acc, np.zeros(acc.shape, np.int32), np.ones(acc.shape, np.bool_))
        place = Place(box, 0, (1, 1, values.size), (0, 0, 1))
        piece = OutputPiece(
            self.device, row.engine, self.fabric.rank, unit.number, row.node, self.user(unit), row.tensor, place,
            stored(values, numpy_dtype(row.dtype)), known, "unit",
        )  # fmt: skip
        self.hook(piece)

    def _error(self, number: int, code: str, what: str, frame: int | None = None) -> MachineError:
        op = self.units[number].ins.op if number < len(self.units) else "unit"
        row = self.fabric.rows[number] if number < len(self.fabric.rows) else None
        told = f"{self.device}, unit {number} ({op})" + ("" if frame is None else f", frame {frame}")
        return MachineError(code, what, where=(told, *((f"ONNX node {row.node}",) if row and row.node else ())))

    def waiting(self) -> list[str]:
        """Units that still have frames to do."""
        return [
            f"{self.device}, unit {u.number} ({u.ins.op} of {u.row.node}): frame {self.user(u)}"
            for u in self.units
            if u.done < u.frames
        ]


def run_fabrics(
    programs: list[DeviceProgram], channels: dict[int, Fifo], host: Host, frames: int, hook: OutputHook | None,
    seed: int | None,
) -> list[FabricRun]:  # fmt: skip
    """Runs all frames through all fabrics. Raises MachineError: a rule broken, or nothing can move."""
    replicas = max(1, programs[0].replicas)
    found, strange = copies_of(programs)
    if strange:
        at, number = strange[0]
        what = f"unit {number} serves no copy of the net, or several"
        raise MachineError(ILLEGAL, what, where=(programs[at].name,))
    runs = []
    for k, p in enumerate(programs):
        if p.fabric is not None:
            copies = [found[(k, u)] for u in range(len(p.fabric.units()))]
            runs.append(FabricRun(p.name, p.fabric, channels, hook, frames, copies, replicas))
    order: list[tuple[Callable[[Unit], bool], Unit]] = [(r.step, u) for r in runs for u in r.units]
    shuffle = None if seed is None else random.Random(seed)
    moved = True
    while moved:
        try:
            moved = bool(host.advance())
        except Fault as fault:
            raise MachineError(fault.code, fault.what) from fault
        if shuffle is not None:
            shuffle.shuffle(order)
        for step, unit in order:
            while step(unit):
                moved = True
    stuck = [line for r in runs for line in r.waiting()]
    if stuck or not host.finished:
        lines = (*stuck, *host.waiting())
        raise MachineError(DEADLOCK, f"deadlock: {len(stuck)} units wait for ever", where=lines[:40])
    for fifo in channels.values():
        if fifo.messages:
            what = f"channel {fifo.spec.id} still holds {len(fifo.messages)} messages that nobody takes"
            raise MachineError(MESSAGE, what)
    return runs
