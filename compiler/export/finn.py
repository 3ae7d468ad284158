"""A streaming plan as the files that FINN's build takes: folding, specialised layers, floorplan, partition.

Needs graph, plan and cluster, and how many quantisers FINN has in front (`compiler.frontend.origin`; None where FINN
does not read such a graph: then entries are called after layers). Gives `export/finn/…`; `fvc partition --fold-from`
and `--floorplan-from` read the same files back. Names are FINN's (`compiler.partition.finn.names`), attributes those of
finn-plus 1.6.1, whose ApplyConfig refuses an attribute that a node has not.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from math import gcd
from typing import Any

from compiler.ir.graph import Conv, Graph, Node, Pool
from compiler.isa.program import Instruction
from compiler.isa.stream.ports import images
from compiler.isa.stream.rates import unit_cycles
from compiler.isa.stream.resources import FINN_STYLES, finn_node, type_name
from compiler.isa.stream.table import DRAM, MEMORIES, URAM, VARIANTS
from compiler.ops.stream.assemble import assemble
from compiler.ops.stream.conv import depthwise
from compiler.ops.stream.netlists import Assembly, Net, Seat, own_name
from compiler.ops.stream.parts import Fold, divisors, element, view
from compiler.ops.stream.planned import copy_of, depths_of, seats_of
from compiler.partition.finn.names import Peer, numbered, peers
from compiler.partition.finn.read import OWN
from compiler.plan.model import Plan
from cost_models.finn import estimate
from device_db.errors import FvcError
from device_db.model import Cluster, DieRef, MemoryBank

SCHEMA = "fvc.finn-estimates/1"
HBM_GROUP = 8  # pseudo-channels of a bank of the device database
_KEPT = {
    "MVAU": ("PE", "SIMD", "resType", "mem_mode", "ram_style"),
    "VVAU": ("PE", "SIMD", "resType", "mem_mode", "ram_style"),
    "ConvolutionInputGenerator": ("SIMD", "parallel_window", "ram_style"),
    "FMPadding": ("SIMD",),
    "Thresholding_hls": ("PE", "ram_style"),
    "Thresholding_rtl": ("PE", "depth_trigger_bram", "depth_trigger_uram"),
    "StreamingConcat": ("SIMD",),
    "UpsampleNearestNeighbour": ("SIMD",),
}
_RTL = ("ConvolutionInputGenerator", "FMPadding", "Thresholding")  # built as RTL unless a unit says otherwise


@dataclass(frozen=True, slots=True)
class Exported:
    """One hardware node: its class, variant, the layer whose place it has, its attributes."""

    kind: str
    variant: str
    layer: str
    attributes: dict[str, Any]
    estimate: dict[str, int] = field(default_factory=dict)  # what FINN estimates: cycles, and resources where known


def finn_files(graph: Graph, plan: Plan, cluster: Cluster, front: int | None) -> dict[str, bytes]:
    """export/finn/… by relative name; of several copies of the net each has its own files, as a design of its own: the
    first there, the k-th of the others in export/finn/copy<k>/. The plan's layers must be whole (`sliced`)."""
    seats = seats_of(plan, cluster)
    words, _ = depths_of(plan)
    read = banks_read(assemble(graph, cluster, seats), cluster)
    files: dict[str, bytes] = {}
    cycles = plan.predicted["interval_cycles"] * plan.replicas
    for copy in range(plan.replicas):
        folder = f"export/finn/copy{copy}" if copy else "export/finn"
        own = {n.name: words[own_name(n.name, copy)] for n in graph.nodes}
        banks = {n.name: read[k] for n in graph.nodes if (k := own_name(n.name, copy)) in read}
        files |= _copy(graph, cluster, copy_of(seats, graph, copy), own, cycles, front, folder, banks)
    return files


def _copy(
    graph: Graph, cluster: Cluster, seats: dict[str, Seat], words: dict[str, list[int]], cycles: int,
    front: int | None, folder: str, stored: dict[str, MemoryBank],
) -> dict[str, bytes]:  # fmt: skip
    """The files of one copy. words: FIFO depths by layer. cycles: between two frames of this copy."""
    if front is None:
        nodes = [_layer(n, seats[n.name]) for n in graph.nodes]
        names = general = [n.layer for n in nodes]
    else:
        built = _Netlists(assemble(graph, cluster, seats), words)
        nodes = [_exported(graph, cycles, built, p, seats) for p in peers(graph, front)]
        names = numbered([f"{n.kind}_{n.variant}" for n in nodes])
        general = numbered([n.kind for n in nodes])
    parts = partitions(graph, seats)
    ports = {layer: memory_port(bank) for layer, bank in stored.items()}
    own = {} if front is None else {OWN: [{n: _fold(seats[n].fold) for n in seats}, [OWN]]}
    folding: dict[str, Any] = {"Defaults": own} | {a: n.attributes for a, n in zip(names, nodes, strict=True)}
    styles = {a: {"preferred_impl_style": n.variant} for a, n in zip(general, nodes, strict=True) if n.variant}
    defaults: dict[str, Any] = {"slr": -1, "partition_id": 0, "device_id": 0, "mem_port": ""}
    floor: dict[str, Any] = {"Defaults": {k: [v, ["all"]] for k, v in defaults.items()}}
    if front is not None:
        floor["Defaults"][OWN] = [{n: [s.ref.device, s.ref.die] for n, s in seats.items()}, [OWN]]
    device = {}
    for name, n in zip(names, nodes, strict=True):
        ref = seats[n.layer].ref
        port = ports.get(n.layer, "") if front is None or n.kind in ("MVAU", "VVAU") else ""
        floor[name] = {"slr": ref.die, "partition_id": parts[n.layer], "device_id": ref.device, "mem_port": port}
        device[name] = ref.device
    files = {
        f"{folder}/folding_config.json": _json(folding),
        f"{folder}/specialize_layers_config.json": _json({"Defaults": {}} | styles),
        f"{folder}/floorplan.json": _json(floor),
        f"{folder}/partition.yaml": "".join(f"{_key(n)}: {d}\n" for n, d in device.items()).encode(),
    }
    if front is not None:
        estimates = {a: n.estimate for a, n in zip(names, nodes, strict=True)}
        slowest = max(estimates, key=lambda n: estimates[n]["cycles"])
        told = {"schema": SCHEMA, "interval_cycles": estimates[slowest]["cycles"], "slowest": slowest}
        files[f"{folder}/estimates.json"] = _json(told | {"nodes": estimates})
    return files


def banks_read(assembly: Assembly, cluster: Cluster) -> dict[str, MemoryBank]:
    """Layer (`own_name`) -> the bank that its weights are read from."""
    return {
        owner: cluster.devices[net.device].board.banks[draft.fields["bank"]]
        for net in assembly.nets
        for draft, owner in zip(net.drafts, net.owners, strict=True)
        if draft.op == "MEM"
    }


def memory_port(bank: MemoryBank) -> str:
    """A bank in a `sp=` line of v++: DDR[1]; a group of eight pseudo-channels of HBM is HBM[8:15]."""
    found = re.fullmatch(r"([A-Za-z]+)([0-9]+)", bank.name)
    if found is None:
        return bank.name
    kind, number = found[1], int(found[2])
    if kind == "HBM":
        return f"HBM[{HBM_GROUP * number}:{HBM_GROUP * number + HBM_GROUP - 1}]"
    return f"{kind}[{number}]"


def sliced(plan: Plan) -> list[str]:
    """The layers that are cut: FINN has no nodes for them."""
    return [x.name for x in plan.layers if len(x.slices) > 1]


def refuse_slices(plan: Plan) -> None:
    """Raises FVC216 where a layer is cut."""
    layers = sliced(plan)
    if layers:
        raise FvcError(
            "FVC216", f"--export finn: {len(layers)} layers are cut, and FINN has no nodes for slices of a layer",
            where=(", ".join(layers[:5]) + (", …" if len(layers) > 5 else ""),),
            help=("leave --export finn out", "add devices, or leave --force-split out, so that all layers are whole"),
            exit_code=1,
        )  # fmt: skip


def _json(content: dict[str, Any]) -> bytes:
    """In the order of the graph: readers tell HLS from RTL nodes by it."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*_[0-9]+", name) else json.dumps(name)


def partitions(graph: Graph, seats: dict[str, Seat]) -> dict[str, int]:
    """Layer -> kernel: connected layers of one die, as few kernels as go without a circle of kernels."""
    maker = {graph.root(n.y): n.name for n in graph.nodes}
    host: dict[str, set[str]] = {}  # tensor -> layers whose results the host made it of
    for s in graph.host_segments:
        behind = {m for x in s.inputs if (m := maker.get(graph.root(x)))}
        behind |= {m for x in s.inputs for m in host.get(graph.root(x), ())}
        host.update((graph.root(y), behind) for y in s.outputs)
    found: dict[str, int] = {}
    places: list[DieRef] = []
    after: list[set[int]] = []  # kernels that read a kernel's results, at any distance: kept closed
    for n in graph.nodes:
        direct = {found[m] for x in n.inputs if (m := maker.get(graph.root(x)))}
        through = {found[m] for x in n.inputs for m in host.get(graph.root(x), ()) if m in found}
        same = [p for p in sorted(direct) if places[p] == seats[n.name].ref]
        own = next((p for p in same if p not in through and not (direct | through) & after[p]), None)
        if own is None:
            own = len(after)
            after.append(set())
            places.append(seats[n.name].ref)
        found[n.name] = own
        before = (direct | through) - {own}
        for p in range(len(after)):
            if p != own and (p in before or before & after[p]):
                after[p] |= {own} | after[own]
    return found


def _fold(f: Fold) -> list[Any]:
    return [f.pe, f.simd, MEMORIES[f.memory], VARIANTS[f.variant]]


def _layer(node: Node, seat: Seat) -> Exported:
    """A layer by its own name: fold, memory and variant."""
    f = seat.fold
    attributes: dict[str, Any] = {"PE": f.pe}
    if isinstance(node, Conv):
        attributes |= {
            "SIMD": f.simd,
            "ram_style": FINN_STYLES[min(f.memory, URAM)],
            "mem_mode": "external" if f.memory == DRAM else "internal_decoupled",
        }
        attributes |= {"resType": "dsp" if VARIANTS[f.variant] == "rtl" else "lut"}
        attributes |= {"preferred_impl_style": VARIANTS[f.variant]}
    return Exported("", VARIANTS[f.variant] if isinstance(node, Conv) else "", node.name, attributes)


class _Netlists:
    """Units by layer, operation and number, and the FIFO depths at their ports."""

    def __init__(self, assembly: Assembly, words: dict[str, list[int]]) -> None:
        self.units: dict[tuple[str, str], list[tuple[Net, int]]] = {}
        self.depth: dict[tuple[int, tuple[int, int], bool], int] = {}  # net, (unit, port), whether it is read there
        for net in assembly.nets:
            for k, (draft, owner) in enumerate(zip(net.drafts, net.owners, strict=True)):
                self.units.setdefault((owner, draft.op), []).append((net, k))
            seen: dict[str, int] = {}
            for w in net.wires:
                number = seen.setdefault(w.owner, 0)
                seen[w.owner] += 1
                depth = words[w.owner][number]
                self.depth[(net.device, w.target, True)] = depth
                self.depth[(net.device, w.source, False)] = depth

    def find(self, peer: Peer, tensor: str) -> tuple[Net, int] | None:
        """The unit of a node; of several that hand on, the one behind the layer's own result."""
        found = self.units.get((peer.layer, peer.op), [])
        if peer.op == "DUP":
            own = {(n.device, w.target[0]) for n, _ in found for w in n.wires if n.rows[w.source[0]].tensor == tensor}
            return next(((n, k) for n, k in found if (n.device, k) in own), None)
        return found[peer.unit] if peer.unit < len(found) else None

    def fifos(self, net: Net, unit: int) -> dict[str, list[int]]:
        out = {}
        for key, read in (("inFIFODepths", True), ("outFIFODepths", False)):
            ports = sorted(p for (d, (u, p), r) in self.depth if (d, u, r) == (net.device, unit, read))
            if ports:
                out[key] = [self.depth[(net.device, (unit, p), read)] for p in ports]
        return out


def _exported(graph: Graph, cycles: int, built: _Netlists, peer: Peer, seats: dict[str, Seat]) -> Exported:
    usual = "rtl" if peer.kind in _RTL else "hls"
    if not peer.layer:
        lanes, elements = _front(graph, cycles, peer.reader)
        return Exported(peer.kind, usual, peer.reader, {"PE": lanes}, {"cycles": elements // lanes})
    node = next(n for n in graph.nodes if n.name == peer.layer)
    found = built.find(peer, node.y)
    if found is None:  # a window that is the whole image, or a result that nobody else reads on its device
        if isinstance(node, Conv) and peer.op == "":
            lanes = gcd(seats[peer.layer].fold.simd, node.x_shape[1])
            return Exported(
                peer.kind,
                usual,
                peer.layer,
                {"SIMD": lanes, "ram_style": "distributed"},
                _whole_window(graph, node, lanes),
            )
        elements = graph.tensors[node.y].elements
        return Exported(peer.kind, usual, peer.layer, {"PE": 1}, {"cycles": elements})
    net, unit = found
    ins = net.drafts[unit].instruction()
    variant, attributes = _attributes(peer.kind, ins, usual)
    return Exported(
        peer.kind, variant, peer.layer, attributes | built.fifos(net, unit), _estimate(peer.kind, node, ins)
    )


def _attributes(kind: str, ins: Instruction, usual: str) -> tuple[str, dict[str, Any]]:
    """Variant and attributes of a unit under FINN's names."""
    peer = finn_node(ins)
    if peer is None or not peer[0].startswith(kind):  # a table, an addition, a step over pixels, an average
        return usual, {"SIMD" if kind == "ConvolutionInputGenerator" else "PE": ins.fields["pe"]}
    name, given = peer
    variant = name.rpartition("_")[2]
    return variant, {k: given[k] for k in _KEPT.get(name, _KEPT.get(kind, ("PE",))) if k in given}


def _estimate(kind: str, node: Node, ins: Instruction) -> dict[str, int]:
    """FINN's cycles and resources of a unit (model="finn"); cycles alone for what is another operator there."""
    peer = finn_node(ins)
    if peer is not None and peer[0].startswith(kind):
        name, given = peer
        if "depthwise" in given:  # of all channels at once the unit does not show it, and FINN counts other cycles
            given = given | {"depthwise": int(isinstance(node, Pool) or (isinstance(node, Conv) and depthwise(node)))}
        e = estimate(name, given, model="finn")
        return {"cycles": images(ins.fields) * e.cycles, "lut": e.lut, "bram18": e.bram18, "uram": e.uram, "dsp": e.dsp}
    f = ins.fields
    if ins.op == "VVAU":  # a pool there, which takes its taps one by one
        return {"cycles": f["channels"] // f["pe"] * f["taps"] * f["pixels"]}
    return {"cycles": unit_cycles(ins)}


def _whole_window(graph: Graph, node: Conv, lanes: int) -> dict[str, int]:
    """FINN's window generator where the window is the image."""
    channels, kernel = node.x_shape[1], list(node.x_shape[2:])
    x = element(graph.tensors[node.x])
    attributes = {
        "ConvKernelDim": kernel, "IFMChannels": channels, "IFMDim": kernel, "OFMDim": [1, 1], "SIMD": lanes,
        "Stride": [1, 1], "Dilation": [1, 1], "inputDataType": type_name(x.bits, x.signed), "depthwise": 0,
        "parallel_window": 0, "ram_style": "distributed", "M": 1,
    }  # fmt: skip
    e = estimate("ConvolutionInputGenerator_rtl", attributes, model="finn")
    return {"cycles": node.x_shape[0] * e.cycles, "lut": e.lut, "bram18": e.bram18, "uram": e.uram, "dsp": e.dsp}


def _front(graph: Graph, cycles: int, reader: str) -> tuple[int, int]:
    """The fewest lanes with which the quantiser in front keeps up with a frame in so many cycles, and its elements."""
    node = next(n for n in graph.nodes if n.name == reader)
    n, c, h, w = view(graph, node.inputs[0])
    elements = n * c * h * w
    return next((d for d in divisors(c) if elements // d <= cycles), c), elements


__all__ = ["banks_read", "finn_files", "memory_port", "partitions", "refuse_slices", "sliced"]
