"""Which functions of the machine made which channels of which tensor, and whether they are the model's.

Collected from the stores of one frame: every byte bears the number of the function that made it. What is proved here
holds for all inputs: a requantiser over every accumulator its channel can have, an addition or multiplication over
all pairs of bytes (of a constant operand: over its values), a table over all bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.executor.accumulators import CHANNEL_AXIS
from compiler.executor.host import session
from compiler.executor.levels import scaling
from compiler.executor.makers import Maker, Makers, Pairs, Requantisers, Tables
from compiler.executor.observe import OutputPiece
from compiler.executor.proof import Difference, compare_requantisers, compare_table
from compiler.executor.reference import PAIR_OPERATORS, NodeInfo, Reference
from compiler.executor.report import TensorResult

Array = NDArray[Any]


class Functions:
    """The functions behind each stored tensor: collect `add` every piece of a run, then `prove` once."""

    def __init__(self, reference: Reference, tensors: dict[str, Array]) -> None:
        """tensors: the reference's of any frame, for shapes and types."""
        self.reference, self.tensors = reference, tensors
        self._seen: set[tuple[int, int]] = set()  # rank and index of stores that were looked at
        self._keys: dict[str, list[Array]] = {}  # tensor -> maker * channels + channel
        self._channels: dict[str, tuple[int, int]] = {}  # tensor -> channels, elements between one and the next

    def add(self, piece: OutputPiece, shape: tuple[int, ...]) -> None:
        """A stored piece of a tensor of this storage4 shape; looked at in its first frame."""
        node = self.reference.functions.get(piece.tensor)
        if node is None or piece.sums is None or (piece.rank, piece.index) in self._seen:
            return
        self._seen.add((piece.rank, piece.index))
        if piece.tensor not in self._channels:
            self._channels[piece.tensor] = self._layout(node)
        count, step = self._channels[piece.tensor]
        keys = piece.sums.makers.astype(np.int64)
        if count > 1:
            keys = keys * count + piece.place.flat(shape) // step % count
        flat = keys.reshape(-1)[(piece.sums.known & (piece.sums.makers != 0)).reshape(-1)]
        if len(flat):
            runs = np.flatnonzero(flat[1:] != flat[:-1]) + 1
            self._keys.setdefault(piece.tensor, []).append(np.unique(flat[np.concatenate([[0], runs])]))

    def _layout(self, node: NodeInfo) -> tuple[int, int]:
        """Channels of a node's result, and how many elements lie between one and the next."""
        shape = self.tensors[node.outputs[0]].shape
        if node.op in PAIR_OPERATORS or len(shape) < 2:
            return 1, 1
        axis = CHANNEL_AXIS.get(node.op, 1) % len(shape)
        return shape[axis], int(np.prod(shape[axis + 1 :], dtype=np.int64))

    def prove(self, makers: Makers, results: dict[str, TensorResult]) -> None:
        """Compares every function with the model's; a difference becomes the problem of the tensor."""
        for tensor, keys in self._keys.items():
            node, result = self.reference.functions[tensor], results[tensor]
            count, _ = self._channels[tensor]
            numbers, channels = np.divmod(np.unique(np.concatenate(keys)), count)
            which = np.searchsorted(makers.starts, numbers, side="right") - 1
            judge, proved, good = self._judge(node, count), set(), np.zeros(count, np.bool_)
            for k in np.unique(which).tolist():
                rows, of = numbers[which == k] - makers.starts[k], channels[which == k]
                content = (*makers.items[k].content(), rows.tobytes(), of.tobytes())
                if content in proved:
                    continue  # another tile with the same functions
                proved.add(content)
                found = judge(makers.items[k], rows, of)
                good[of] |= found is None
                if isinstance(found, Difference) and not result.problem:
                    result.problem = f"another function than the model's makes it; {found}"
            result.functions = int(np.count_nonzero(good))

    def _judge(self, node: NodeInfo, count: int) -> Callable[[Maker, Array, Array], Difference | str | None]:
        """(maker, rows, channels) -> the first difference, or "" where the model has no such function to compare."""
        if node.op in CHANNEL_AXIS:
            model = scaling(self.reference, node, count, self.tensors)

            def requantisers(maker: Maker, rows: Array, channels: Array) -> Difference | str | None:
                if model is None or not isinstance(maker, Requantisers):
                    return ""
                return compare_requantisers(maker, rows, channels, model)

            return requantisers
        pairs = node.op in PAIR_OPERATORS
        wanted, used = (self._pairs(node), self._used(node)) if pairs else (self._tables(node), np.ones(256, np.bool_))

        def tables(maker: Maker, rows: Array, channels: Array) -> Difference | str | None:
            if wanted is None or not isinstance(maker, Pairs if pairs else Tables):
                return ""
            for row, channel in zip(rows.tolist(), channels.tolist(), strict=True):
                got = maker.table if isinstance(maker, Pairs) else maker.tables[row]
                found = compare_table(got, wanted[channel % len(wanted)], channel, used)
                if found is not None:
                    return found
            return None

        return tables

    def _pairs(self, node: NodeInfo) -> Array | None:
        """(1, 65536) result bytes of ONNX Runtime for every pair of operand bytes."""
        from onnx import helper, numpy_helper

        constants = self.reference.constants
        parameters = [k for k in range(8) if k not in (0, 3)]
        if len(node.inputs) != 8 or any(node.inputs[k] not in constants for k in parameters):
            return None
        names = [f"i{k}" for k in range(8)]
        kinds = {k: helper.np_dtype_to_tensor_dtype(constants[node.inputs[k + 2]].dtype) for k in (0, 3)}
        graph = helper.make_graph(
            [helper.make_node(node.op, names, ["y"], domain="com.microsoft")],
            "pairs",
            [helper.make_tensor_value_info(names[k], kind, [1 << 16]) for k, kind in kinds.items()],
            [helper.make_tensor_value_info("y", kinds[0], None)],
            [numpy_helper.from_array(constants[node.inputs[k]], names[k]) for k in parameters],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
        order = np.arange(256, dtype=np.uint8)
        a, b = np.repeat(order, 256), np.tile(order, 256)
        feed = {names[k]: v.view(constants[node.inputs[k + 2]].dtype) for k, v in ((0, a), (3, b))}
        return np.asarray(session(model).run(["y"], feed)[0]).view(np.uint8).reshape(1, -1)

    def _used(self, node: NodeInfo) -> Array:
        """Which of the 65,536 pairs of bytes can occur: a constant operand has only its own values."""
        used = np.ones((256, 256), np.bool_)
        for operand, axis in ((node.inputs[0], 0), (node.inputs[3], 1)):
            constant = self.reference.constants.get(operand)
            if constant is not None and constant.dtype.itemsize == 1:
                absent = np.setdiff1d(np.arange(256), constant.view(np.uint8))
                used[(absent, slice(None)) if axis == 0 else (slice(None), absent)] = False
        return used.reshape(-1)

    def _tables(self, node: NodeInfo) -> Array | None:
        """(channels or 1, 256) result bytes of a look-up by the operand's byte: Gather of a constant, addressed by the
        operand as an integer, to which an offset of its channel may be added."""
        reference, makers = self.reference, {o: n for n in self.reference.nodes for o in n.outputs}
        data = reference.constants.get(node.inputs[0])
        index, offset = makers.get(node.inputs[1]), np.zeros(1, np.int64)
        if index is not None and index.op == "Add":
            constant = next((i for i in index.inputs if i in reference.constants), None)
            other = next((i for i in index.inputs if i not in reference.constants), None)
            if constant is None or other is None:
                return None
            offset, index = reference.constants[constant].astype(np.int64).reshape(-1), makers.get(other)
        if data is None or data.ndim != 1 or data.dtype.itemsize != 1 or index is None or index.op != "Cast":
            return None
        operand = self.tensors.get(index.inputs[0])
        if operand is None or operand.dtype.itemsize != 1:
            return None
        at = np.arange(256, dtype=np.uint8).view(operand.dtype).astype(np.int64) + offset[:, None]
        if at.min() < -len(data) or at.max() >= len(data):
            return None
        found: Array = data[at].view(np.uint8)
        return found
