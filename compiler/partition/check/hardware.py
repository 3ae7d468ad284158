"""Judges the engines: that they stand on real dies, are what their numbers say, and fit in every type and wire."""

from __future__ import annotations

from dataclasses import fields

from compiler.isa.check.findings import Findings
from compiler.isa.program import EngineSpec
from compiler.plan.model import SCHEMA, EnginePlan, Plan
from cost_models.tiled import engine_resources
from device_db.model import RESOURCE_TYPES, Board, Cluster
from device_db.topology import SLL_STREAM_WIRES, memory_wires

_TEXT = {"id", "die", "bank"}


def check_hardware(plan: Plan, cluster: Cluster, found: Findings) -> bool:
    """False if later rules have nothing to stand on."""
    before = len(found.kept)
    if plan.schema != SCHEMA:
        found.add("FVC220", f"schema is '{plan.schema}', not '{SCHEMA}'", "schema")
    check_cluster(plan, cluster, found)
    boards = {d.name: d.board for d in cluster.devices}
    if plan.replicas < 1:
        found.add("FVC220", f"{plan.replicas} replicas", "replicas")
    seen: set[str] = set()
    for k, e in enumerate(plan.engines):
        where = f"engines[{k}] {e.id}"
        if e.id in seen:
            found.add("FVC220", "an engine id stands there twice", where)
        seen.add(e.id)
        if e.rank != k:
            found.add("FVC220", f"rank {e.rank}; engines are ranked densely in order: {k}", where)
        if not 0 <= e.replica < plan.replicas:
            found.add("FVC220", f"replica {e.replica} of {plan.replicas}", where)
        if e.device not in boards:
            found.add("FVC220", f"no device is called '{e.device}'", where)
        elif e.die not in [d.name for d in boards[e.device].dies]:
            found.add("FVC220", f"{e.device} has no die '{e.die}'", where)
        else:
            _engine(e, boards[e.device], str(plan.options.get("memory", "auto")), where, found)
    if {e.replica for e in plan.engines} != set(range(plan.replicas)):
        found.add("FVC220", "not every replica has an engine", "engines")
    if len(found.kept) > before:
        return False
    for device in cluster.devices:
        own = [e for e in plan.engines if e.device == device.name]
        _dies(device.name, device.board, own, found)
        _wires(device.name, device.board, own, found)
        _banks(device.name, device.board, own, found)
    return True


def check_cluster(plan: Plan, cluster: Cluster, found: Findings) -> None:
    """The plan names the cluster that it is judged against."""
    want = {"spec": cluster.name, "topology": cluster.topology, "devices": [d.name for d in cluster.devices]}
    for key, value in want.items():
        have = plan.cluster.get(key)
        if (list(have) if isinstance(have, tuple) else have) != value:
            found.add("FVC220", f"cluster.{key} is {have!r}, the cluster's is {value!r}", f"cluster.{key}")


def _engine(e: EnginePlan, board: Board, memory: str, where: str, found: Findings) -> None:
    """The numbers of one engine against its die and bank."""
    names = {f.name for f in fields(EngineSpec)}
    p = e.parameters
    if set(p) != names:
        found.add("FVC220", f"parameters differ from an engine's: {sorted(set(p) ^ names)}", where)
        return
    for name in sorted(names):
        right = isinstance(p[name], str) if name in _TEXT else isinstance(p[name], int) and p[name] > 0
        if not right or isinstance(p[name], bool):
            found.add("FVC220", f"parameter {name} is {p[name]!r}", where)
            return
    die = next(d for d in board.dies if d.name == e.die)
    index = board.dies.index(die)
    device, _, number = e.id.rpartition("/")
    if device != f"{e.device}/{e.die}" or not number.isdigit():
        found.add("FVC220", f"the id does not say where it stands: {e.device}/{e.die}/<n>", where)
    if e.style != "tiled" or e.fold != {"tm": p["tm"], "tn": p["tn"]}:
        found.add("FVC220", f"style {e.style} and fold {e.fold} differ from its parameters", where)
    if (p["id"], p["die"]) != (e.id, e.die):
        found.add("FVC220", f"parameters are those of {p['id']} on {p['die']}", where)
    if p["clock_khz"] != die.clock_khz:
        found.add("FVC220", f"clock of {p['clock_khz']} kHz, the die's is {die.clock_khz}", where)
    banks = {b.name: b for b in board.banks}
    bank = banks.get(p["bank"])
    if bank is None:
        found.add("FVC220", f"{e.device} has no bank '{p['bank']}'", where)
        return
    rate = bank.bytes_per_second * bank.efficiency_percent // 100
    if p["bank_bytes_per_second"] != rate:
        found.add("FVC209", f"bank rate of {p['bank_bytes_per_second']} bytes/s, {bank.name} gives {rate}", where)
    for side in ("ld", "st"):
        bits = p[f"{side}_bytes_per_cycle"] * 8
        if bits > bank.port_bits:
            found.add("FVC209", f"{side} port of {bits} bits, {bank.name} has at most {bank.port_bits}", where)
    need = engine_resources(
        p["tm"], p["tn"], p["act_bytes"], p["wgt_bytes"], p["acc_bytes"], p["tab_bytes"], p["ld_bytes_per_cycle"],
        p["st_bytes_per_cycle"], vector_lanes=p["vector_lanes"], macs_per_dsp=board.macs_per_dsp,
        has_uram=board.dies[index].raw.uram > 0, wgt_memory=memory if memory in ("bram", "uram") else "auto",
    )  # fmt: skip
    for t in RESOURCE_TYPES:
        if getattr(e.resources, t) != getattr(need, t):
            found.add("FVC203", f"{t} {getattr(e.resources, t)}, the engine model gives {getattr(need, t)}", where)


def _dies(name: str, board: Board, engines: list[EnginePlan], found: Findings) -> None:
    for die in board.dies:
        here = [e for e in engines if e.die == die.name]
        for t in RESOURCE_TYPES:
            need, have = sum(getattr(e.resources, t) for e in here), getattr(die.usable, t)
            if need > have:
                parts = ", ".join(f"{e.id} ({getattr(e.resources, t)})" for e in here)
                found.add(
                    "FVC203", f"{t.upper()} over budget on {name}/{die.name}: {need} needed, {have} usable", parts
                )


def _wires(name: str, board: Board, engines: list[EnginePlan], found: Findings) -> None:
    """Wires of each boundary: the inter-die stream and every memory port that crosses it."""
    at = {d.name: k for k, d in enumerate(board.dies)}
    bank_die = {b.name: b.die for b in board.banks}
    for i, have in enumerate(board.sll_wires):
        need = SLL_STREAM_WIRES
        parts = [f"stream ({SLL_STREAM_WIRES})"]
        for e in engines:
            a, b = sorted((at[e.die], bank_die[e.parameters["bank"]]))
            if a <= i < b:
                bits = max(e.parameters["ld_bytes_per_cycle"], e.parameters["st_bytes_per_cycle"]) * 8
                need += memory_wires(bits)
                parts.append(f"{e.id} to {e.parameters['bank']} ({memory_wires(bits)})")
        if need > have:
            between = f"{name}/{board.dies[i].name}|{board.dies[i + 1].name}"
            found.add("FVC209", f"SLL wires over budget at {between}: {need} needed, {have} usable", ", ".join(parts))


def _banks(name: str, board: Board, engines: list[EnginePlan], found: Findings) -> None:
    for bank in board.banks:
        here = [e for e in engines if e.parameters["bank"] == bank.name]
        given = sum(e.parameters["dram_bytes"] for e in here)
        if given > bank.capacity_bytes:
            found.add(
                "FVC208",
                f"{name}/{bank.name} has {bank.capacity_bytes} bytes, its engines are given {given}",
                ", ".join(e.id for e in here),
            )
