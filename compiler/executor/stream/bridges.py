"""Bridges at work: the messages between cores, host and the netlists beside them, and the netlists' units.

A netlist takes and sends messages in the order in which they stand, each channel by itself: in iteration i a message of
stage s is of frame i - s. A message is taken when its bridge has a slot for its frame and sent when the frame is there.
"""

from __future__ import annotations

import random
from collections import deque
from math import prod

import numpy as np

from compiler.executor.channels import Fifo
from compiler.executor.faults import ILLEGAL, MESSAGE, Fault, MachineError
from compiler.executor.observe import OutputHook
from compiler.executor.stream.run import Bridge, FabricRun, Unit
from compiler.isa.program import DeviceProgram, Instruction
from compiler.isa.stream.table import BOX

Turn = tuple[Instruction, int]  # message, frame


class _Bridges:
    """The messages of one netlist."""

    def __init__(self, run: FabricRun, channels: dict[int, Fifo], frames: int, iterations: int) -> None:
        self.run, self.scripts = run, dict[tuple[int, bool], tuple[Fifo, deque[Turn]]]()
        for m in run.fabric.messages():
            f = m.fields
            unit = run.units[f["unit"]] if f["unit"] < len(run.units) else None
            if unit is None or unit.bridge is None:
                raise MachineError(ILLEGAL, f"a message names unit {f['unit']}, no bridge", where=(run.device,))
            out = unit.ins.op == "BRO"
            fifo = channels.get(f["channel"])
            if fifo is None:
                raise MachineError(ILLEGAL, f"a message names channel {f['channel']}", where=(run.device,))
            try:
                fifo.end(*((run.fabric.rank, f["rank"]) if out else (f["rank"], run.fabric.rank)))
            except Fault as fault:
                raise MachineError(fault.code, fault.what, where=(run.device,)) from fault
            low, high = self._corners(m)
            if min(h - a for a, h in zip(low, high, strict=True)) < 1 or any(
                h > size for h, size in zip(high, unit.bridge.shape, strict=True)
            ):
                raise MachineError(ILLEGAL, f"a message's box {low}..{high} leaves its tensor", where=(run.device,))
            self.scripts.setdefault((f["channel"], out), (fifo, deque()))
        for iteration in range(iterations):
            for m in run.fabric.messages():
                frame = iteration - m.fields["stage"]
                if 0 <= frame < frames:
                    out = run.units[m.fields["unit"]].ins.op == "BRO"
                    self.scripts[(m.fields["channel"], out)][1].append((m, frame))

    @staticmethod
    def _corners(m: Instruction) -> tuple[list[int], list[int]]:
        box = [m.fields[name] for name in BOX]
        return box[0::2], box[1::2]

    def advance(self) -> list[int]:
        """Passes every message that can; the channels that moved."""
        moved = []
        for (channel, out), (fifo, script) in self.scripts.items():
            while script:
                m, frame = script[0]
                unit = self.run.units[m.fields["unit"]]
                assert unit.bridge is not None
                try:
                    done = self._send(fifo, m, unit.bridge, frame) if out else self._take(fifo, m, unit, frame)
                except Fault as fault:
                    where = f"{self.run.device}, unit {unit.number} ({unit.ins.op}), frame {frame}"
                    raise MachineError(fault.code, fault.what, where=(where,)) from fault
                if not done:
                    break
                script.popleft()
                moved.append(channel)
        return moved

    def _take(self, fifo: Fifo, m: Instruction, unit: Unit, frame: int) -> bool:
        b = unit.bridge
        assert b is not None
        if not fifo.messages or frame >= unit.done + b.slots:
            return False
        body = fifo.take(m.fields["tag"])
        low, high = self._corners(m)
        sizes = [h - a for a, h in zip(low, high, strict=True)]
        if len(body) != m.fields["bytes"] or len(body) != prod(sizes) * b.kind.itemsize:
            raise Fault(MESSAGE, f"takes {len(body)} bytes for a box of {sizes}")
        if frame not in b.frames:
            b.frames[frame] = np.zeros(b.shape, np.int64)
            b.missing[frame] = b.messages
        place = tuple(slice(a, h) for a, h in zip(low, high, strict=True))
        b.frames[frame][place] = np.frombuffer(body, b.kind).reshape(sizes)
        b.missing[frame] -= 1
        return True

    def _send(self, fifo: Fifo, m: Instruction, b: Bridge, frame: int) -> bool:
        if frame not in b.frames or fifo.full:
            return False
        low, high = self._corners(m)
        place = tuple(slice(a, h) for a, h in zip(low, high, strict=True))
        fifo.send(m.fields["tag"], np.ascontiguousarray(b.frames[frame][place]).tobytes())
        b.missing[frame] -= 1
        if not b.missing[frame]:
            del b.missing[frame], b.frames[frame]
        return True

    def waiting(self) -> list[str]:
        """Messages that never passed."""
        return [
            f"{self.run.device}, channel {channel}: frame {script[0][1]} {'leaves' if out else 'comes'} never"
            for (channel, out), (_, script) in self.scripts.items()
            if script
        ]


class Fabrics:
    """All netlists beside the cores."""

    def __init__(
        self,
        programs: list[DeviceProgram],
        channels: dict[int, Fifo],
        frames: int,
        iterations: int,
        hook: OutputHook | None,
        seed: int | None,
    ) -> None:
        self.runs = [
            FabricRun(p.name, p.fabric, channels, hook, frames, [0] * len(p.fabric.units()), 1)
            for p in programs
            if p.fabric is not None
        ]
        self.ranks = {r.fabric.rank for r in self.runs}
        self.bridges = [_Bridges(r, channels, frames, iterations) for r in self.runs]
        self.random = None if seed is None else random.Random(seed)

    def advance(self) -> set[int]:
        """Fires units and passes messages until nothing can move; the channels that moved."""
        moved: set[int] = set()
        order = [(r, u) for r in self.runs for u in r.units]
        going = True
        while going:
            going = False
            for b in self.bridges:
                if channels := b.advance():
                    moved |= set(channels)
                    going = True
            if self.random is not None:
                self.random.shuffle(order)
            for r, unit in order:
                while r.step(unit):
                    going = True
        return moved

    def waiting(self) -> list[str]:
        """What was left undone."""
        return [line for r in self.runs for line in r.waiting()] + [line for b in self.bridges for line in b.waiting()]
