"""Planner's and plan checker's netlists of the same seats, drawn at random, side by side: two codes, one meaning."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from typing import Any

from compiler.ir.graph import Graph
from compiler.isa.stream import ports
from compiler.isa.stream.table import DRAM, MEMORIES, VARIANTS
from compiler.ops.stream.assemble import assemble
from compiler.ops.stream.lower import legal_folds
from compiler.ops.stream.measure import channels
from compiler.ops.stream.netlists import Assembly, engine_id, own_name
from compiler.ops.stream.netlists import Seat as Chosen
from compiler.ops.stream.sliced import Cuts, expand
from compiler.partition.check.stream.budgets import channels_of
from compiler.partition.check.stream.netlist import Netlist, Seat, netlist
from compiler.partition.check.stream.pieces import Model, model_of
from compiler.partition.check.stream.words import Fold, Illegal
from device_db import load_cluster
from device_db.errors import FvcError
from device_db.model import Cluster, DieRef

# What fills memories, and numbers of ends: no resource and no time depends on them.
OPEN = {"fill", "lo", "hi", "zero_point", "rank", "channel", "tag", "bank", "address", "last"}


def unit_key(op: str, fields: dict[str, int], ref: tuple[int, int]) -> tuple[Any, ...]:
    kept = {k: v for k, v in fields.items() if v and k not in OPEN}
    return op, tuple(sorted(kept.items())), ref


def planned(a: Assembly) -> tuple[Counter[Any], dict[str, list[Any]]]:
    """Units; by owner its streams in the order of FIFOs."""
    units: Counter[Any] = Counter()
    fifos: dict[str, list[Any]] = {}
    for net in a.nets:
        keys = [unit_key(d.op, d.fields, (net.device, die)) for d, die in zip(net.drafts, net.dies, strict=True)]
        units.update(zip(net.owners, keys, strict=True))
        for w in net.wires:
            word = (w.port.pe, w.port.bits, w.port.signed, w.port.words)
            fifos.setdefault(w.owner, []).append((keys[w.source[0]], keys[w.target[0]], w.target[1], word))
    return units, fifos


def judged(net: Netlist) -> tuple[Counter[Any], dict[str, list[Any]]]:
    units: Counter[Any] = Counter()
    fifos: dict[str, list[Any]] = {}
    keys = [unit_key(u.op, u.fields, (u.ref.device, u.ref.die)) for u in net.units]
    units.update((own_name(u.owner[1], u.owner[0]), k) for u, k in zip(net.units, keys, strict=True))
    for s in net.streams:
        w = s.end.word
        word = (w.lanes, w.element.bits, w.element.signed, w.count)
        fifos.setdefault(own_name(s.owner[1], s.owner[0]), []).append((keys[s.end.unit], keys[s.target], s.port, word))
    return units, fifos


def draw(graph: Graph, cuts: Cuts, seed: int, copies: int, external: bool) -> tuple[Graph, Cluster, dict[str, Chosen]]:
    """Every layer of every copy with some legal fold on some die of two boards."""
    cluster, rng, cut = load_cluster("u250+u50"), random.Random(seed), expand(graph, cuts)
    seats = {}
    for copy in range(copies):
        for n in cut.nodes:
            ref = rng.choice(cluster.dies)
            folds = legal_folds(cut, n, True, external)
            outside = [f for f in folds if f.memory == DRAM and rng.random() < 0.7]
            seats[own_name(n.name, copy)] = Chosen(DieRef(ref.device, ref.die), rng.choice(outside or folds))
    return cut, cluster, seats


def differences(graph: Graph, cuts: Cuts, seed: int, copies: int = 1, external: bool = False) -> list[Any]:
    """What one has and the other has not; empty where both netlists are the same, or both refuse to build one."""
    cut, cluster, chosen = draw(graph, cuts, seed, copies, external)
    assembly: Assembly | None = None
    with suppress(FvcError, ports.Illegal):
        assembly = assemble(cut, cluster, chosen)
    names = dict(cuts)
    model: Model = model_of(graph, {n.name: names[n.name].name if n.name in names else "whole" for n in graph.nodes})
    assert [p.key for p in model.pieces] == [n.name for n in cut.nodes]
    seats = {}
    for name, seat in chosen.items():
        key, _, copy = name.partition("\x1f")
        f = seat.fold
        fold = Fold(f.pe, f.simd, VARIANTS[f.variant], MEMORIES[f.memory])
        engine = engine_id(cluster, cut, key, seat.ref, int(copy or 0))
        seats[(int(copy or 0), key)] = Seat(seat.ref, fold, engine)
    try:
        net = netlist(model, cluster, seats, copies)
    except Illegal as problem:
        return [] if assembly is None else [("the checker refuses", str(problem))]
    if assembly is None:
        return ["the planner refuses, the checker does not"]
    (a, b), (c, d) = planned(assembly), judged(net)
    out: list[Any] = [*(("planner's", x) for x in a - c), *(("checker's", x) for x in c - a)]
    out += [(k, x, y) for k in {*b, *d} for x, y in zip(b.get(k, []), d.get(k, []), strict=False) if x != y]
    out += [(k, len(b.get(k, [])), len(d.get(k, []))) for k in {*b, *d} if len(b.get(k, [])) != len(d.get(k, []))]
    told, meant = Counter(channels(cut, cluster, assembly, chosen)), Counter(channels_of(net, model, cluster, seats))
    return out + list((told - meant).elements()) + list((meant - told).elements())
