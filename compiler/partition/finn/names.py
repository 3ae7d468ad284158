"""Which hardware nodes FINN makes of a graph, in FINN's order, and what they are called there.

FINN turns a layer into sliding window, matrix-vector unit, thresholds, …, each a node of its own (its option
`standalone_thresholds`), sorts the graph (by depth, then by place) and numbers the nodes of each class as they come:
MVAU_hls_0, MVAU_rtl_0, Thresholding_rtl_0, … (qonnx's SortGraph and GiveUniqueNodeNames). Before layers are specialised
the classes have no suffix. A quantiser at the graph's input, which runs on the host here, is a Thresholding there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.ir.graph import Binary, Conv, Graph, HostSegment, Node, Table
from compiler.ops.stream.conv import dense_input
from compiler.ops.stream.lower import legal_folds, lower

# FINN's class of each unit of an engine; what is not here (requantisers, frame buffers) it does not have.
CLASSES = {
    "PAD": "FMPadding",
    "WIN": "ConvolutionInputGenerator",
    "CROP": "ConvolutionInputGenerator",
    "MVAU": "MVAU",
    "VVAU": "VVAU",
    "THR": "Thresholding",
    "TAB": "Thresholding",
    "POOL": "Pool",
    "SUM": "GlobalAccPool",
    "BIN": "ElementwiseAdd",
    "CAT": "StreamingConcat",
    "UPS": "UpsampleNearestNeighbour",
    "ARG": "LabelSelect",
}
FOLDED = ("MVAU", "VVAU", "POOL", "SUM", "BIN", "TAB", "CAT", "UPS", "ARG")  # the unit whose PE is the layer's


@dataclass(frozen=True, slots=True)
class Peer:
    """A hardware node of FINN's graph: its class there, and the unit here that it stands for.

    `unit` counts the layer's own units of that operation; "DUP" stands between layers. `layer` is "" for the
    quantisers in front, whose reader is `reader`; `op` is "" for what has no unit here.
    """

    kind: str
    layer: str
    op: str
    unit: int
    reader: str = ""

    @property
    def folds(self) -> bool:
        """Whether its PE is that of the layer."""
        return self.op in FOLDED


def ones(node: Node) -> bool:
    """Whether a depthwise layer only adds up its window: FINN's average pool."""
    return (
        isinstance(node, Conv)
        and node.groups > 1
        and node.weight.shape[1] == 1
        and node.weight.shape[2:] != (1, 1)
        and bool((node.weight.astype(np.int16) - node.weight_zero_point == 1).all())
    )


def steps_alone(node: Node) -> bool:
    """Whether a layer is a step function and nothing else: here behind a product of each channel with one."""
    if not isinstance(node, Conv) or node.thresholds is None or node.weight.shape[1:] != (1, 1, 1):
        return False
    moves = node.strides != (1, 1) or any(node.pads)
    return not moves and bool((np.abs(node.weight.astype(np.int32) - node.weight_zero_point) == 1).all())


def of_layer(graph: Graph, node: Node) -> list[Peer]:
    """FINN's nodes of a layer, one after the other. Raises FVC214 for a layer that no streaming engine does."""
    units = lower(graph, node, legal_folds(graph, node, True)[0]).units
    seen: dict[str, int] = {}
    out = []
    if isinstance(node, Conv) and node.op.startswith("Conv") and dense_input(node) and node.weight.shape[2:] != (1, 1):
        out.append(Peer("ConvolutionInputGenerator", node.name, "", 0))  # a window as large as the image is none here
    for u in units:
        number = seen.get(u.op, 0)
        seen[u.op] = number + 1
        kind = CLASSES.get(u.op)
        if ones(node):  # pool and quantiser are one node there
            kind = {"VVAU": "Pool", "THR": None}.get(u.op, kind)
        if u.op == "REQ" and isinstance(node, Conv) and node.thresholds is not None:
            kind = None if ones(node) else "Thresholding"
        if u.op == "VVAU" and steps_alone(node):
            kind = None
        if isinstance(node, Binary) and node.kind != "add":
            kind = "ElementwiseMul"
        if kind is not None:
            out.append(Peer(kind, node.name, u.op, number))
    return out


def peers(graph: Graph, front: int = 0) -> list[Peer]:
    """All nodes in FINN's order. front: quantisers at the graph's inputs that run on the host here."""
    readers: dict[str, list[str]] = {}
    for n in graph.nodes:
        for x in n.inputs:
            readers.setdefault(graph.root(x), []).append(n.name)
    stages = {n.name: of_layer(graph, n) for n in graph.nodes}
    depth: dict[str, int] = {}
    found: list[tuple[int, int, Peer]] = []
    place = 0
    for s in graph.steps:
        at = max((depth.get(graph.root(x), 0) for x in s.inputs), default=0)
        if isinstance(s, HostSegment):
            depth.update((graph.root(y), at) for y in s.outputs)
            continue
        for peer in stages[s.name]:
            found.append((at, place, peer))
            at, place = at + 1, place + 1
        made = graph.root(s.y)
        if len(readers.get(made, ())) > 1:
            found.append((at, place, Peer("DuplicateStreams", s.name, "DUP", 0)))
            at, place = at + 1, place + 1
        depth[made] = at
    first = next((n.name for n in graph.nodes), "")
    tables = next((k for k, n in enumerate(graph.nodes) if not isinstance(n, Table)), 0)
    front = max(0, front - tables)  # quantisers of integers in front are layers here
    ahead = [Peer("Thresholding", "", "", k, first) for k in range(front)]
    return ahead + [peer for _, _, peer in sorted(found, key=lambda f: f[:2])]


def numbered(kinds: list[str]) -> list[str]:
    """Names of nodes of these classes, in order: each class counts by itself."""
    count: dict[str, int] = {}
    out = []
    for kind in kinds:
        out.append(f"{kind}_{count.get(kind, 0)}")
        count[kind] = count.get(kind, 0) + 1
    return out
