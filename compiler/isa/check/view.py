"""Needs one core's program; gives it as columns with names for places: how the checker looks at instructions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.isa.check.findings import Findings
from compiler.isa.encoding import Columns, Group, Ints, columns_of
from compiler.isa.program import CoreProgram, Instruction
from compiler.isa.table import Queue, Space

QUEUES = len(Queue)


@dataclass(slots=True)
class CoreView:
    """The instructions of a core in one stream, queue after queue.

    queue, position: (n,) of each instruction; first, length: (6,) where each queue begins and how long it is.
    """

    device: str
    core: CoreProgram
    stream: list[Instruction]
    columns: Columns
    position: Ints
    first: Ints
    length: Ints

    @property
    def count(self) -> int:
        return self.columns.count

    def head(self, name: str) -> Ints:
        return self.columns.head[name]

    def group(self, op: str) -> Group | None:
        return self.columns.groups.get(op)

    def size_of(self, space: Space) -> int:
        """Bytes of an address space of this core."""
        e = self.core.engine
        return {
            Space.CONST: len(self.core.constants),
            Space.WORK: self.core.work_bytes,
            Space.ACT: e.act_bytes,
            Space.WGT: e.wgt_bytes,
            Space.ACC: e.acc_bytes,
            Space.TAB: e.tab_bytes,
        }[space]

    @property
    def name(self) -> str:
        return f"{self.device}, core {self.core.rank} ({self.core.engine.id})"

    def where(self, index: int) -> tuple[str, ...]:
        """Device, core, queue and position; ONNX node and task if the debug table knows them."""
        i = self.stream[index]
        lines = [f"{self.name}: {i.queue.name}[{int(self.position[index])}] {i.op}"]
        if i.debug < len(self.core.debug):
            row = self.core.debug[i.debug]
            names = [row.node, row.task, row.tensor]
            if any(names):
                lines.append(" ".join(dict.fromkeys(n for n in names if n)))
        return tuple(lines)


def view_core(device: str, core: CoreProgram) -> CoreView:
    """Raises FvcError FVC310 if an instruction cannot be encoded."""
    stream = [i for q in Queue for i in core.queues.get(q, ())]
    columns = columns_of(stream)
    length = np.array([len(core.queues.get(q, ())) for q in Queue], np.int64)
    first = np.cumsum(length) - length
    position = np.arange(len(stream)) - np.repeat(first, length)
    return CoreView(device, core, stream, columns, position, first, length)


def report(
    findings: Findings,
    view: CoreView,
    index: Ints,
    bad: NDArray[np.bool_],
    code: str,
    what: str,
    values: Iterable[Ints] = (),
) -> None:
    """One finding for each instruction index[k] with bad[k]; `what` is formatted with the values' k-th entries."""
    columns = tuple(values)
    for k in np.flatnonzero(bad)[:25].tolist():
        findings.add(code, what.format(*(int(c[k]) for c in columns)), *view.where(int(index[k])))
