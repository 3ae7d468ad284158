"""The Plan: what the partitioner decided, what the checker judges, what the scheduler obeys and `plan.json` stores.

Frozen dataclasses of plain numbers and strings; validated at the file boundary with pydantic's TypeAdapter.
Boxes are eight half-open storage4 bounds (n0, n1, c0, c1, h0, h1, w0, w1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SCHEMA = "fvc.plan/1"
Box = tuple[int, int, int, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class ResourcePlan:
    lut: int
    ff: int
    bram18: int
    uram: int
    dsp: int


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """One engine on one die. `fold` of a tiled engine: {"tm": 64, "tn": 64}; `parameters` are EngineSpec's numbers."""

    id: str  # "u280-0/SLR1/0"
    rank: int  # dense over the cluster; the host is 0xFFFF
    device: str
    die: str
    style: str  # "tiled" | "streaming"
    fold: dict[str, int]
    parameters: dict[str, Any]
    resources: ResourcePlan
    replica: int = 0


@dataclass(frozen=True, slots=True)
class SlicePlan:
    """One task: a box of a layer on one engine.

    role: "full" computes and requantises its box; "partial" computes int32 sums over input channels
    [reduce_from, reduce_to) and leaves them to the "reduce" slice(s) of the same layer, which add all partials
    of their box and requantise; "gather" (streaming) puts full slices side by side. A layer on one engine is one full
    slice.
    """

    task: str  # "<layer>#<k>", unique; k counts over the layer's slices
    engine: str
    role: str  # "full" | "partial" | "reduce" | "gather"
    box: Box  # of the layer's output tensor
    reduce_from: int
    reduce_to: int
    stage: int
    order: int  # position in the one global topological order; queues follow it
    memory: str  # "stream" | "resident" | "share 1/2" or "inputs 1/2" (loads one of two shares of weights, inputs)
    tile: dict[str, int]  # chosen by compiler.ops: e.g. tm, tr, tc, tn, order
    cycles: int  # predicted busy cycles a frame on its engine
    replica: int = 0


@dataclass(frozen=True, slots=True)
class HopPlan:
    """One share of a layer's weights or inputs on its way from an engine that has it to one that needs it."""

    share: int  # index into XferPlan.tasks: whose share it is
    source: str  # engine id
    target: str
    bits_per_frame: int
    route: tuple[str, ...]  # link ids


@dataclass(frozen=True, slots=True)
class XferPlan:
    """Tasks that need the same weights: the k-th loads share k of each block from its DRAM ("share k/n" in its memory)
    and passes it on; hops are in the order in which the messages of a block pass the queues. inputs: what they need
    alike is a part of the layer's input ("inputs k/n")."""

    tasks: tuple[str, ...]
    hops: tuple[HopPlan, ...]
    inputs: bool = field(default=False, metadata={"unless": "empty"})


@dataclass(frozen=True, slots=True)
class LayerPlan:
    name: str  # IR node name
    op: str
    strategy: str  # "whole" | "Pm=2" | "Pn=3" …
    slices: tuple[SlicePlan, ...]
    xfer: tuple[XferPlan, ...] = ()


@dataclass(frozen=True, slots=True)
class ChannelPlan:
    """One piece of a tensor from the engine that makes it to one that needs it. "host" is an engine id too."""

    tensor: str  # root tensor, or "<layer>.partial<k>" for int32 partial sums
    box: Box
    source: str  # engine id
    target: str
    bits_per_frame: int
    route: tuple[str, ...]  # link ids
    source_stage: int
    target_stage: int  # the earliest consumer's
    replica: int = 0


@dataclass(frozen=True, slots=True)
class HostSegmentPlan:
    name: str
    nodes: tuple[str, ...]
    reason: str
    stage: int
    order: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class BridgePlan:
    """One tensor between a region and what is not of it: a frame buffer on the side of the streams."""

    tensor: str
    layer: str  # whose engine the bridge belongs to: the tensor's maker, or its first reader in the region
    out: bool  # from the region
    frames: int  # frame slots


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """Layers whose streaming engines are joined by streams, in a plan that has tiled engines too.

    To the rest of the plan it is one thing that takes whole tensors at `stage` and has made whole tensors by
    `stage + lag`; its layers' slices bear its stage and order."""

    name: str  # "region0"
    device: str
    die: str  # on which its bridges stand
    rank: int
    layers: tuple[str, ...]
    stage: int
    lag: int  # frames from the start of one until what is made of it leaves
    order: int
    pace_ps: int  # a frame, by its slowest unit
    latency_ps: int  # from the whole input to the whole output, alone
    bridges: tuple[BridgePlan, ...]


@dataclass(frozen=True, slots=True)
class SolverPlan:
    status: str  # OPTIMAL | FEASIBLE
    objective: int  # interval in reference-clock cycles (throughput) or latency (latency)
    bound: int
    gap: float
    proved_by: str
    proved_scope: tuple[str, ...]
    seed: int
    workers: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    schema: str
    model: dict[str, Any]
    cluster: dict[str, Any]
    options: dict[str, Any]
    solver: SolverPlan
    engines: tuple[EnginePlan, ...]
    layers: tuple[LayerPlan, ...]
    channels: tuple[ChannelPlan, ...]
    host_segments: tuple[HostSegmentPlan, ...]
    predicted: dict[str, Any]
    replicas: int = 1
    fallbacks: tuple[str, ...] = field(default=())
    regions: tuple[RegionPlan, ...] = field(default=(), metadata={"unless": "empty"})  # not in plan.json if empty
