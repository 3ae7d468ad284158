"""A small plan written by hand, and ways to change it: what the tests of plan.json and of the diff start from."""

from __future__ import annotations

from dataclasses import replace

from compiler.plan.model import (
    SCHEMA,
    ChannelPlan,
    EnginePlan,
    HostSegmentPlan,
    LayerPlan,
    Plan,
    ResourcePlan,
    SlicePlan,
    SolverPlan,
)


def engine(die: str, rank: int, tm: int = 64, tn: int = 32) -> EnginePlan:
    device, name = die.split("/")
    return EnginePlan(
        id=f"{die}/0",
        rank=rank,
        device=device,
        die=name,
        style="tiled",
        fold={"tm": tm, "tn": tn},
        parameters={},
        resources=ResourcePlan(lut=1000 * tm, ff=2000 * tm, bram18=4 * tn, uram=tn, dsp=tm * tn // 2),
    )


def layer(name: str, *places: str, cycles: int = 1000, order: int = 0, channels: int = 64) -> LayerPlan:
    share = channels // len(places)
    slices = tuple(
        SlicePlan(
            task=f"{name}#{k}",
            engine=f"{place}/0",
            role="full",
            box=(0, 1, k * share, (k + 1) * share, 0, 8, 0, 8),
            reduce_from=0,
            reduce_to=16,
            stage=0,
            order=order,
            memory="stream",
            tile={"tr": 8, "tc": 8},
            cycles=cycles // len(places),
        )
        for k, place in enumerate(places)
    )
    return LayerPlan(name, "QLinearConv", "whole" if len(places) == 1 else f"Pm={len(places)}", slices)


A, B, C = "u280-0/SLR0", "u280-0/SLR1", "u280-1/SLR0"


def small_plan() -> Plan:
    """Three layers on two dies of one device."""
    return Plan(
        schema=SCHEMA,
        model={"name": "small.onnx", "sha256": "1" * 64},
        cluster={"spec": "u280x2"},
        options={"objective": "throughput"},
        solver=SolverPlan("OPTIMAL", 3000, 3000, 0.0, "cp-sat", ("whole layers",), 0, 1),
        engines=(engine(A, 0), engine(B, 1)),
        layers=(layer("conv1", A, order=0), layer("conv2", A, order=1, cycles=2000), layer("conv3", B, order=2)),
        channels=(
            ChannelPlan("conv2_out", (0, 1, 0, 64, 0, 8, 0, 8), f"{A}/0", f"{B}/0", 32768, ("u280-0/SLR0>SLR1",), 0, 1),
        ),
        host_segments=(HostSegmentPlan("host0", ("softmax",), "Softmax has no engine", 2, 3, 50_000),),
        predicted={
            "interval_ns": 10_000,
            "latency_ns": 25_000,
            "fps": 100_000.0,
            "limiting": {"kind": "engine", "where": f"{A}/0"},
        },
    )


def changed_plan() -> Plan:
    """The same model after a change of everything that a diff can tell: move, slice, fold, addition, removal."""
    base = small_plan()
    return replace(
        base,
        cluster={"spec": "u280x3"},
        options={"objective": "throughput", "memory": "uram"},
        engines=(engine(A, 0, tm=96), engine(B, 1), engine(C, 2)),
        layers=(layer("conv1", A, order=0), layer("conv2", B, C, order=1, cycles=2000), layer("conv4", C, order=2)),
        predicted={
            "interval_ns": 5_000,
            "latency_ns": 26_500,
            "fps": 200_000.0,
            "limiting": {"kind": "link", "where": "u280-0>u280-1"},
        },
    )
