"""FINN's folding configurations and floorplans as options of the partitioner.

Needs a JSON file as FINN writes it (node name -> attributes, "Defaults") and the graph; gives the fold or the die of
each layer. Keys are names of layers, or names of FINN's hardware nodes, which are matched by class and number
(`names`): a file whose MVAUs and VVAUs are not as many as the graph's is another graph's, and nothing is guessed.
Raises FVC002, FVC007, FVC217 to FVC219.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from compiler.ir.graph import Conv, Graph, Move, Node
from compiler.isa.stream.table import DRAM, MEMORIES, VARIANTS
from compiler.ops.stream.lower import legal_folds
from compiler.ops.stream.parts import Fold
from compiler.partition.finn.names import Peer, ones, peers
from device_db.document import loads
from device_db.errors import FvcError
from device_db.model import Cluster

FoldAsked = tuple[str, int, int, str, str]  # layer, PE, SIMD, memory or "", variant or ""

# Older names of FINN's classes.
_FORMER = {
    "MatrixVectorActivation": "MVAU", "StreamingFCLayer_Batch": "MVAU", "VectorVectorActivation": "VVAU",
    "Vector_Vector_Activate_Batch": "VVAU", "Thresholding_Batch": "Thresholding", "Pool_Batch": "Pool",
    "StreamingMaxPool": "Pool", "StreamingMaxPool_Batch": "Pool", "AddStreams": "ElementwiseAdd",
    "AddStreams_Batch": "ElementwiseAdd", "LabelSelect_Batch": "LabelSelect", "GlobalAccPool_Batch": "GlobalAccPool",
    "UpsampleNearestNeighbour_Batch": "UpsampleNearestNeighbour",
}  # fmt: skip
# A default of no node: what FINN's attributes cannot say of a layer stands there, and FINN passes it over.
OWN = "fvc"
_STRICT = ("MVAU", "VVAU")
_MEMORY = {"auto": "", "block": "bram", "distributed": "lutram", "ultra": "uram"}
_KNOWN = {
    "ram_style": ("auto", "block", "distributed", "ultra"), "resType": ("auto", "lut", "dsp"),
    "mem_mode": ("internal_embedded", "internal_decoupled", "external", "dynamic"),
    "preferred_impl_style": ("", "hls", "rtl"),
}  # fmt: skip
_SHAPE = ('{"MVAU_hls_0": {"PE": 4, "SIMD": 8}, …} is what it looks like',)
_LANES = ("StreamingConcat", "UpsampleNearestNeighbour")  # classes whose lanes FINN calls SIMD


@dataclass(frozen=True, slots=True)
class Entry:
    """A node of the file: its name, class without suffix, class as written, number, attributes."""

    name: str
    kind: str
    style: str
    number: int
    attributes: dict[str, Any]


def read_entries(path: Path) -> list[Entry]:
    """The nodes of a file in file order, with the defaults filled in; kind "" where the name is no FINN name."""
    content = _content(path)
    defaults = content.pop("Defaults", {})
    defaults.pop(OWN, None)
    entries = []
    for name, attributes in content.items():
        style, _, number = name.rpartition("_")
        plain = style.removesuffix("_hls").removesuffix("_rtl")
        if not number.isdecimal() or not number.isascii() or len(number) > 9:
            plain, number = "", "0"
        given = {k: v[0] for k, v in defaults.items() if _meant(path, k, v, {plain, style})}
        entries.append(Entry(name, _FORMER.get(plain, plain), style, int(number), given | attributes))
    return entries


def read_own(path: Path, form: tuple[type, ...]) -> dict[str, list[Any]]:
    """What fvc has left in its own files for itself: layer -> values of these types. {} in files of FINN."""
    kept = _content(path).get("Defaults", {}).get(OWN)
    if kept is None:
        return {}
    layers = kept[0] if isinstance(kept, list) and kept else None
    if not isinstance(layers, dict) or not all(
        isinstance(v, list) and tuple(type(x) for x in v) == form for v in layers.values()
    ):
        raise FvcError(
            "FVC007", f"the default '{OWN}' is not as fvc writes it", where=(str(path),), help=("take it out",)
        )
    return layers


def _content(path: Path) -> dict[str, Any]:
    """The file as an object of objects. Raises FVC002, FVC007."""
    try:
        content = loads(path.read_text("utf-8"))
    except OSError as problem:
        raise FvcError("FVC002", f"cannot read the FINN file: {problem.strerror}", where=(str(path),)) from None
    except ValueError as problem:
        raise FvcError("FVC007", f"the FINN file is not JSON: {problem}", where=(str(path),), help=_SHAPE) from None
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise FvcError(
            "FVC007",
            "the FINN file is no object of node names with their attributes",
            where=(str(path),),
            help=_SHAPE,
        )
    return content


def _meant(path: Path, key: str, default: Any, names: set[str]) -> bool:
    """Whether a default [value, [classes or "all"]] is for nodes of these class names. Raises FVC007."""
    classes = default[1] if isinstance(default, list) and len(default) == 2 else None
    classes = [classes] if isinstance(classes, str) else classes
    if not isinstance(classes, list) or not all(isinstance(n, str) for n in classes):
        raise FvcError(
            "FVC007",
            f"the default '{key}' is no value with the classes that it is for",
            where=(str(path),),
            help=(f'"{key}": [value, ["all"]] is what it looks like',),
        )
    return "all" in classes or any(n in names for n in classes)


def matched(graph: Graph, path: Path, front: int) -> tuple[dict[str, Entry], list[Entry], list[str]]:
    """Layer name -> its entry, all entries, and sentences on what was not taken. Raises FVC217."""
    entries = read_entries(path)
    layers = [n.name for n in graph.nodes]
    named = [e for e in entries if e.name in layers]
    if named:
        strange = next((e for e in entries if e.name not in layers), None)
        if strange is not None:
            raise _other(path, f"it names '{strange.name}', which is no layer of the model", layers)
        return {e.name: e for e in named}, entries, []
    found: dict[str, Entry] = {}
    notes = []
    here: dict[str, list[Peer]] = {}
    for peer in peers(graph, front):
        here.setdefault(peer.kind, []).append(peer)
    for kind in dict.fromkeys([*_STRICT, *here]):
        ours, theirs = here.get(kind, []), _in_turn([e for e in entries if e.kind == kind], path)
        if len(ours) != len(theirs):
            if kind in _STRICT:
                what = f"the FINN file has {len(theirs)} {kind}, the model has {len(ours)} such layers"
                raise _other(path, what, [p.layer for p in ours])
            if theirs and any(p.folds for p in ours):
                notes.append(
                    f"{path.name}: its {len(theirs)} {kind} are not taken, of the model FINN would make {len(ours)}"
                )
            continue
        found.update((p.layer, e) for p, e in zip(ours, theirs, strict=True) if p.folds and p.layer)
    if not found:
        raise _other(path, "the FINN file names no layer of the model", layers)
    return found, entries, notes


def nodes_from(graph: Graph, path: Path, front: int = 0) -> dict[str, Peer]:
    """The hardware node behind each FINN name of a file, of the classes that it has as many of as the model. Raises
    FVC002, FVC007, FVC217."""
    here: dict[str, list[Peer]] = {}
    for peer in peers(graph, front):
        here.setdefault(peer.kind, []).append(peer)
    out: dict[str, Peer] = {}
    entries = read_entries(path)
    for kind, ours in here.items():
        theirs = _in_turn([e for e in entries if e.kind == kind], path)
        if len(theirs) == len(ours):
            out.update((e.name, p) for e, p in zip(theirs, ours, strict=True))
    return out


def _other(path: Path, what: str, layers: list[str]) -> FvcError:
    return FvcError(
        "FVC217",
        what,
        where=(str(path), *(f"model: {n}" for n in layers[:3])),
        help=("use the file that FINN wrote for this model, or name layers",),
    )


def _in_turn(entries: list[Entry], path: Path) -> list[Entry]:
    """Entries of a class in graph order: HLS and RTL alternate as in the file, each counts up by itself."""
    queues: dict[str, list[Entry]] = {}
    for e in entries:
        queues.setdefault(e.style, []).append(e)
    for style, queue in queues.items():
        queue.sort(key=lambda e: e.number)
        if [e.number for e in queue] != list(range(len(queue))):
            missing = next(k for k in range(len(queue)) if queue[k].number != k)
            raise _other(path, f"the FINN file has {queue[-1].name} but no {style}_{missing}", [])
    return [queues[e.style].pop(0) for e in entries]


def folds_from(graph: Graph, path: Path, front: int = 0) -> tuple[tuple[FoldAsked, ...], list[str]]:
    """The fold of each layer that the file names. Raises FVC217, and FVC218 for a fold that the layer has not."""
    found, _, notes = matched(graph, path, front)
    nodes = {n.name: n for n in graph.nodes}
    out: list[FoldAsked] = []
    for layer in (n.name for n in graph.nodes if n.name in found):
        fold, told = _fold(graph, nodes[layer], found[layer], path)
        out.append(fold)
        notes += told
    return _completed(graph, path, out), notes


def _completed(graph: Graph, path: Path, folds: list[FoldAsked]) -> tuple[FoldAsked, ...]:
    """With the rest of each fold from fvc's own file, as far as it does not speak against what the entries say."""
    said = {f[0]: f for f in folds}
    own = read_own(path, (int, int, str, str))
    out = []
    for n in graph.nodes:
        mine, kept = said.get(n.name), own.get(n.name)
        if kept is not None:
            legal = [(f.pe, f.simd, MEMORIES[f.memory], VARIANTS[f.variant]) for f in legal_folds(graph, n, True, True)]
            pooled = isinstance(n, Conv) and ones(n)
            agrees = mine is None or (
                mine[1] == kept[0]
                and (pooled or mine[2] == kept[1])
                and mine[3] in ("", kept[2])
                and mine[4] in ("", kept[3])
            )
            if agrees and tuple(kept) in legal:
                mine = (n.name, *kept)
        if mine is not None:
            out.append(mine)
    return tuple(out)


def _fold(graph: Graph, node: Node, e: Entry, path: Path) -> tuple[FoldAsked, list[str]]:
    notes = []
    lanes = "SIMD" if e.kind in _LANES or (isinstance(node, Move) and "PE" not in e.attributes) else "PE"
    dense = isinstance(node, Conv) and e.kind != "Pool"
    legal = legal_folds(graph, node, True)
    pe = _number(e, node.name, lanes, {f.pe for f in legal}, path)
    simd = _number(e, node.name, "SIMD", {f.simd for f in legal}, path) if dense else 1  # FINN's pool: tap by tap
    fits = [f for f in legal if (f.pe, f.simd) == (pe, simd)]
    if not fits:
        _refuse(e, node.name, f"PE={pe} with SIMD={simd} is no fold of this layer", path)
    memory = variant = ""
    for key in _KNOWN:
        _text(e, node.name, key, path)
    external = e.attributes.get("mem_mode") == "external"
    if external and isinstance(node, Conv):
        outside = [f for f in legal_folds(graph, node, True, True) if f.memory == DRAM and (f.pe, f.simd) == (pe, simd)]
        if not outside:
            notes.append(f"{path.name}: {e.name} reads more weights at once than a memory port has, here they stand on "
                         "the chip")  # fmt: skip
        fits, external = outside or fits, bool(outside)
    if isinstance(node, Conv):
        memory = MEMORIES[DRAM] if external else _MEMORY.get(_text(e, node.name, "ram_style", path), "")
        ending = e.style.rpartition("_")[2]
        variant = ending if ending in VARIANTS else _text(e, node.name, "preferred_impl_style", path)
    for what, value, have in (
        ("ram_style", memory, {MEMORIES[f.memory] for f in fits}),
        ("implementation", variant, {VARIANTS[f.variant] for f in fits}),
    ):
        if value and value not in have:
            notes.append(f"{path.name}: {e.name} cannot have the {what} {value} here")
            memory, variant = (memory, "") if what == "implementation" else ("", variant)
    if not any(_is(f, memory, variant) for f in fits):
        notes.append(f"{path.name}: {e.name} cannot have {memory} in {variant} here")
        memory = variant = ""
    return (node.name, pe, simd, memory, variant), notes


def _is(f: Fold, memory: str, variant: str) -> bool:
    return memory in ("", MEMORIES[f.memory]) and variant in ("", VARIANTS[f.variant])


def _number(e: Entry, layer: str, key: str, legal: set[int], path: Path) -> int:
    """An amount of lanes, one of the legal ones."""
    value = e.attributes.get(key, 1)
    allowed = f"{key} may be {', '.join(map(str, sorted(legal)))}"
    if type(value) is not int or value < 1:
        _refuse(e, layer, f"{key}={value!r:.40} is no whole number of 1 or more", path, allowed)
    if value not in legal:
        _refuse(e, layer, f"{key}={value!r:.40} does not divide what it folds", path, allowed)
    return int(value)


def _text(e: Entry, layer: str, key: str, path: Path) -> str:
    """A style, one of those that FINN has."""
    value = e.attributes.get(key, "")
    if value != "" and value not in _KNOWN[key]:
        allowed = ", ".join(k for k in _KNOWN[key] if k)
        _refuse(e, layer, f"{key}={value!r:.40} is no {key} of FINN", path, f"{key} may be {allowed}")
    return str(value)


def _refuse(e: Entry, layer: str, what: str, path: Path, *help: str) -> NoReturn:
    where = (str(path), f"layer '{layer}'") if layer else (str(path),)
    raise FvcError("FVC218", f"{e.name}: {what}", where=where, help=help)


def anchors_from(
    graph: Graph, cluster: Cluster, path: Path, front: int = 0
) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    """(layer, "u280-0/SLR1") or (layer, "u280-0") for each layer that a floorplan places. Raises FVC217, FVC219.

    slr -1 leaves the die open, a missing device_id is device 0 of a floorplan that names an SLR."""
    found, entries, notes = matched(graph, path, front)
    place = {e.name: _place(e, cluster, path) for e in entries}  # also of nodes that are no layers
    own = read_own(path, (int, int))
    out = []
    for n in graph.nodes:
        if n.name in found:
            at = place[found[n.name].name]
        elif n.name in own:
            device, slr = own[n.name]
            at = _place(Entry(n.name, "", "", 0, {"device_id": device, "slr": slr}), cluster, path)
        else:
            at = ""
        if at:
            out.append((n.name, at))
    return tuple(out), notes


def _place(e: Entry, cluster: Cluster, path: Path) -> str:
    device, slr = e.attributes.get("device_id", 0), e.attributes.get("slr", -1)
    if type(device) is not int or not 0 <= device < len(cluster.devices):
        names = ", ".join(d.name for d in cluster.devices)
        raise FvcError(
            "FVC219", f"{e.name}: there is no device {device!r:.40}", where=(str(path),), help=(f"there are {names}",)
        )
    board = cluster.devices[device]
    if type(slr) is not int or not -1 <= slr < len(board.board.dies):
        dies = ", ".join(d.name for d in board.board.dies)
        raise FvcError(
            "FVC219", f"{e.name}: {board.name} has no SLR {slr!r:.40}", where=(str(path),), help=(f"it has {dies}",)
        )
    for key, usual, like in (("partition_id", 0, "0, 1, …"), ("mem_port", "", "DDR[0] or HBM[0:7]")):
        value = e.attributes.get(key, usual)
        if type(value) is not type(usual):
            raise FvcError(
                "FVC219", f"{e.name}: {value!r:.40} is no {key}", where=(str(path),), help=(f"{key} is like {like}",)
            )
    if slr >= 0:
        return f"{board.name}/{board.board.dies[slr].name}"
    return board.name if "device_id" in e.attributes and len(cluster.devices) > 1 else ""
