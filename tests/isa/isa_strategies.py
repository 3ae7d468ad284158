"""Random instructions and programs for the property tests: every field anywhere in its range, nothing meaningful."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from compiler.isa.layout import HEAD_SLOTS, LAYOUTS
from compiler.isa.program import (
    Channel,
    CoreProgram,
    DebugRow,
    DeviceProgram,
    EngineSpec,
    HostMessage,
    Instruction,
    LinkSpec,
    Packet,
    Placement,
)
from compiler.isa.table import Flag, Queue

_FULL = {s.field.name: s for s in HEAD_SLOTS}


@st.composite
def instructions(draw: st.DrawFn, queue: Queue | None = None) -> Instruction:
    layout = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))]
    fields = {s.field.name: draw(st.integers(s.low, s.high)) for s in layout.slots}
    return Instruction(
        layout.op.name,
        draw(st.sampled_from(list(Queue))) if queue is None else queue,
        fields,
        flags=draw(st.integers(0, sum(Flag))),
        wait=draw(st.integers(0, 63)),
        post=draw(st.integers(0, 63)),
        stage=draw(st.integers(0, 2**16 - 1)),
        packet=draw(st.integers(0, 2**32 - 1)),
        debug=draw(st.integers(0, 2**32 - 1)),
    )


def random_instruction(rng: random.Random, queue: Queue, packets: int) -> Instruction:
    layout = LAYOUTS[rng.choice(sorted(LAYOUTS))]
    fields = {s.field.name: rng.choice((s.low, s.high, 0, rng.randint(s.low, s.high))) for s in layout.slots}
    if "dram_space" in fields:
        fields["dram_space"] = rng.randint(0, 1)
    if "scratch_space" in fields:
        fields["scratch_space"] = rng.randint(2, 5)
    for name in [n for n in fields if n.endswith("_addr") or n == "rank"]:
        if name in fields:
            fields[name] &= 0xFFFF
    return Instruction(
        layout.op.name,
        queue,
        fields,
        rng.randrange(256),
        rng.randrange(64),
        rng.randrange(64),
        rng.randrange(9),
        rng.randrange(packets),
        rng.randrange(5),
    )


def random_program(seed: int, cores: int = 2, length: int = 20) -> DeviceProgram:
    """A program that uses every container section; equal seeds give equal programs."""
    rng = random.Random(seed)

    def core(rank: int) -> CoreProgram:
        queues = {q: [random_instruction(rng, q, 4) for _ in range(rng.randrange(length))] for q in Queue if q != 3}
        constants = rng.randbytes(rng.randrange(500))
        return CoreProgram(
            rank=rank,
            engine=EngineSpec(
                f"dev/SLR{rank}/0",
                f"SLR{rank}",
                8,
                16,
                4096,
                4096,
                4096,
                1024,
                16,
                32,
                32,
                300_000,
                "HBM0",
                10**10,
                1 << 30,
            ),
            queues=queues,
            marking=tuple(tuple(rng.randrange(3) for _ in range(6)) for _ in range(6)),
            constants=constants,
            work_bytes=rng.randrange(1 << 30),
            packets=[Packet(k, f"conv{k % 2}#0", k) for k in range(4)],
            debug=[DebugRow(f"n{k}", "conv0#0", "t é", (0, 1, 0, k, 0, 1, 0, 1), "output") for k in range(4)]
            + [DebugRow("", "", "", (), "transport")],
            memory_map=[Placement("t é", "u8", (0, 1, 0, 3, 0, 1, 0, 1), 64, 3, 2)],
            symbols={"w.a": (0, len(constants) // 2), "b": (len(constants) // 2, 0)},
            folding=[{"layer": "conv0", "tile": [1, 2], "share": 0.5, "nested": {"z": None, "a": True}}],
        )

    return DeviceProgram(
        name="dev-0",
        cores=[core(k) for k in range(cores)],
        channels=[
            Channel(k, k % 2, 0xFFFF if k == 2 else 1 - k % 2, 2, 900, "SLL", ("a>b", "b>c")[: k + 1]) for k in range(3)
        ],
        links=[LinkSpec("a>b", 10**9, 100), LinkSpec("b>c", 10**10, 0)],
        host=[HostMessage(2, 7, "t é", "u8", (1, 3), (0, 3), (1, 1, 3), (0, 0, -1), 1, False, 1, 0)],
        outputs={"z": "t é", "a": "t é"},
        aliases={"z": ("t é", (3, 1)), "scalar": ("t é", ())},
        replicas=1,
        stages=3,
        note={"model": "sha", "seed": 0, "gap": 0.25},
    )


programs = st.builds(random_program, st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 12))
