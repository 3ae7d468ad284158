"""Transfers as messages: boxes cut into chunks that a channel takes, as sender, receiver and host see them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from compiler.ir.graph import Graph, storage4
from compiler.isa.canonical import canonical_fields
from compiler.isa.program import HostMessage, Instruction
from compiler.isa.table import HOST_RANK, Queue
from compiler.ops import View
from compiler.ops.blocks import cut
from compiler.ops.boxes import box_sizes, whole_box
from compiler.ops.dma import merge_dims
from compiler.plan.model import Box
from compiler.schedule.buffers import dtype_of
from compiler.schedule.flow import Flow, Transfer
from compiler.schedule.shares import ShareMessage
from cost_models.primitives import ceil_div

MESSAGE_BYTES = 16 * 1024
CAPACITY_MESSAGES = 4


@dataclass(frozen=True, slots=True)
class Message:
    """One chunk of a transfer: its box, bytes, and the tag that both ends name."""

    transfer: Transfer
    box: Box
    bytes: int
    tag: int

    @property
    def source(self) -> int:
        return self.transfer.piece.rank

    @property
    def target(self) -> int:
        return self.transfer.target


def plan_messages(
    graph: Graph, flow: Flow, views: dict[int, dict[str, View]], shares: list[ShareMessage], first_tag: int
) -> list[Message | ShareMessage]:
    """All messages of a replica in the one global order, that of transfers, with the shares of weights in their places;
    tags count up from `first_tag`."""
    out: list[Message | ShareMessage] = []
    waiting = list(reversed(shares))

    def before(order: int | None) -> None:
        while waiting and (order is None or waiting[-1].place[0] <= order):
            out.append(replace(waiting.pop(), tag=first_tag + len(out)))

    for t in flow.transfers:
        before(t.piece.order)
        name = t.piece.tensor
        elem = dtype_of(graph, name)[1]
        ends = [views[r][name] for r in (t.piece.rank, t.target) if r in views]
        if len(ends) < 2:  # the host and bridges have tensors whole
            ends.append(_dense(graph, name))
        for box in chunks(t.box, elem, ends):
            size = 1
            for s in box_sizes(box):
                size *= s
            out.append(Message(t, box, size * elem, first_tag + len(out)))
    before(None)
    return out


def _dense(graph: Graph, name: str) -> View:
    t = graph.tensors[name]
    from compiler.isa.table import Space

    return View(name, Space.WORK, 0, whole_box(storage4(t.shape)), t.dtype.size_bytes)


def chunks(box: Box, elem: int, ends: list[View]) -> Iterator[Box]:
    """Boxes of at most MESSAGE_BYTES, in row-major order, that every end sees as three dimensions or fewer."""
    sizes = box_sizes(box)
    for axis in range(4):
        inner = elem
        for s in sizes[axis + 1 :]:
            inner *= s
        if inner > MESSAGE_BYTES:
            continue
        size = min(sizes[axis], MESSAGE_BYTES // inner)
        size = ceil_div(sizes[axis], ceil_div(sizes[axis], size))
        trial = tuple(1 if a < axis else (size if a == axis else s) for a, s in enumerate(sizes))
        if all(len(merge_dims(_dims(trial, v), elem)) <= 3 for v in ends):
            return cut(box, axis, size)
    return cut(box, 3, MESSAGE_BYTES // elem)


def _dims(sizes: tuple[int, ...], view: View) -> list[tuple[int, int, int]]:
    """Dims (count, stride in the view, stride in the packed message) of a box."""
    packed = view.elem
    out: list[tuple[int, int, int]] = []
    for a in (3, 2, 1, 0):
        out.insert(0, (sizes[a], view.strides[a], packed))
        packed *= sizes[a]
    return out


def _shape(box: Box, view: View) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(counts, strides) of a box in a view, outermost first."""
    merged = merge_dims(_dims(box_sizes(box), view), view.elem)
    while len(merged) < 3:
        merged.insert(0, (1, 0, 0))
    counts = (merged[0][0], merged[1][0], merged[2][0])
    strides = (merged[0][1], merged[1][1], merged[2][1])
    return counts, tuple(s if n > 1 else 0 for n, s in zip(counts, strides, strict=True))  # type: ignore[return-value]


def transport_instruction(message: Message, view: View, outgoing: bool, channel: int, peer: int) -> Instruction:
    """The TX or RX of a message at one end."""
    counts, strides = _shape(message.box, view)
    b = message.box
    fields = {
        "elem": view.elem,
        "rank": peer,
        "channel": channel,
        "dram_addr": view.at(b[0], b[2], b[4], b[6]),
        "depth": view.depth,
        "frame_stride": view.frame_stride,
        "n2": counts[0],
        "n1": counts[1],
        "n0": counts[2],
        "dram_s2": strides[0],
        "dram_s1": strides[1],
        "dram_s0": strides[2],
        "tag": message.tag,
        "bytes": message.bytes,
    }
    queue = Queue.TX if outgoing else Queue.RX
    op = queue.name
    return Instruction(op, queue, canonical_fields(op, fields), stage=message.transfer.piece.stage)


def host_message(graph: Graph, message: Message, channel: int, replica: int) -> HostMessage:
    """The host's end of a message."""
    name = message.transfer.piece.tensor
    t = graph.tensors[name]
    view = _dense(graph, name)
    counts, strides = _shape(message.box, view)
    b = message.box
    return HostMessage(
        channel, message.tag, name, t.dtype.value, t.shape, (view.at(b[0], b[2], b[4], b[6]),), counts, strides,
        t.dtype.size_bytes, message.transfer.piece.rank == HOST_RANK, message.transfer.piece.stage, replica,
    )  # fmt: skip
