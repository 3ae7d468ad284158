"""Programs whose times are worked out by hand, to the picosecond."""

from __future__ import annotations

import json

import pytest

from compiler.isa.program import Channel, DebugRow, HostMessage
from compiler.isa.table import Flag, Space
from compiler.simulator import HostTask, simulate, trace
from device_db.errors import FvcError
from tests.simulator.programs import (
    CX,
    CYCLE,
    LD,
    RX,
    ST,
    TX,
    bits,
    core,
    device,
    engine,
    link,
    load,
    marking,
    message,
    store,
    tile_core,
    vector,
)  # fmt: skip

GB = 10**9  # bytes a second = one byte a cycle


def cycles(ps: int) -> float:
    return ps / CYCLE


def test_double_buffering_hides_all_but_the_slowest_queue() -> None:
    """LD 6400/64 + 32 = 132, CX 100, ST 3200/64 + 32 = 82 cycles."""
    result = simulate([device(tile_core(0, 6400, 100, 3200))])
    assert cycles(result.latency_ps) == 132 + 100 + 82
    assert cycles(result.interval_ps) == 132
    assert result.settled


def test_one_credit_serialises_load_and_compute() -> None:
    result = simulate([device(tile_core(0, 6400, 100, 3200, credits=1))])
    assert cycles(result.interval_ps) == 132 + 100
    stalls = {q.queue: q.stalls_ps for q in result.queues}
    assert stalls["LD"] == {"CX": 100 * CYCLE}
    assert stalls["CX"] == {"LD": 132 * CYCLE}
    assert stalls["ST"] == {"CX": (132 + 100 - 82) * CYCLE}


def test_two_cores_share_a_bank_equally() -> None:
    """Each loads 6400 bytes at up to 64 a cycle from a bank of 64: both get 32, 32 + 200 cycles."""
    spec = [engine(r, bank="hbm", rate=64 * GB) for r in range(2)]
    result = simulate([device(core(0, load(6400), spec=spec[0]), core(1, load(6400), spec=spec[1]))])
    assert cycles(result.latency_ps) == cycles(result.interval_ps) == 32 + 200
    contention = [cycles(q.contention_ps) for q in result.queues]
    assert contention == [100, 100]
    bank = next(u for u in result.utilisation if u.kind == "bank")
    assert bank.amount == 12800 and round(bank.percent, 2) == round(100 * 200 / 232, 2)


def test_the_one_left_gets_the_whole_bank() -> None:
    """6400 and 3200 bytes: together until 3200 each have moved (100 cycles), the rest at 64 a cycle (50)."""
    spec = [engine(r, bank="hbm", rate=64 * GB) for r in range(2)]
    result = simulate([device(core(0, load(6400), spec=spec[0]), core(1, load(3200), spec=spec[1]))])
    assert cycles(result.latency_ps) == 32 + 100 + 50


def test_a_slow_port_leaves_its_share_to_the_others() -> None:
    """Bank 64; port of core 0 takes 16, so core 1 has 48: 4800 bytes in 100 cycles, 1600 more at 16 in 100."""
    spec = [engine(0, bank="hbm", rate=64 * GB, ld=16), engine(1, bank="hbm", rate=64 * GB)]
    result = simulate([device(core(0, load(1600), spec=spec[0]), core(1, load(4800), spec=spec[1]))])
    assert cycles(result.latency_ps) == 32 + 100


def test_three_way_sharing_in_time() -> None:
    """Bank 60 (all ports 60). Core 0 computes first, so its 1200-byte store joins two loads on the way.

    t=32: loads of 3000 and 3000 share 30 each. CX of core 0 ends at 60, its store moves from 92: 20 each.
    By 92 the loads have moved 1800, 1200 left each = the store's 1200: all end at 92 + 60 = 152."""
    spec = [engine(r, bank="hbm", rate=60 * GB, ld=60, st=60) for r in range(3)]
    programs = [
        core(0, vector(60, 0, bits(ST)), store(1200, bits(CX)), spec=spec[0]),
        core(1, load(3008), spec=spec[1]),
        core(2, load(3008), spec=spec[2]),
    ]
    # 3008 and 1216 bytes are whole 64-byte bursts: 47 and 19 of them.
    # 30 * 60 = 1800 moved by t = 92; 1208 left each, the store has 1216: all at 20 until 1208 are gone (60.4 cycles),
    # then the last 8 bytes alone at 60.
    result = simulate([device(*programs)])
    assert result.latency_ps == round((92 + 60.4 + 8 / 60) * CYCLE + 0.5)


def test_short_runs_take_whole_bursts() -> None:
    """100 runs of 8 bytes: 100 port cycles, but 6400 bytes on a bank of 32 a cycle: 200 cycles."""
    strided = load(8)
    strided.fields.update(n1=100, dram_s1=1000)
    result = simulate([device(core(0, strided, spec=engine(0, rate=32 * GB)))])
    assert cycles(result.latency_ps) == 32 + 200


def test_message_cuts_through_and_credits_return() -> None:
    """640 bytes over 8 a cycle: 80 cycles, head after 5, RX done with the tail at 85; with one place TX waits."""
    for capacity, interval in ((1, 85), (2, 80)):
        wire = Channel(0, 0, 1, capacity, 640, "SLL", ("a>b",))
        programs = device(
            core(0, message("TX", 0, 640)), core(1, message("RX", 0, 640)), channels=[wire], links=[link("a>b", 8, 5)]
        )
        result = simulate([programs])
        assert cycles(result.latency_ps) == 85
        assert cycles(result.interval_ps) == interval


def test_two_messages_share_a_link_and_a_third_route_does_not() -> None:
    """Channels 0 and 1 over link a (8 a cycle), channel 1 also over link b (2 a cycle), so 0 gets the 6 left."""
    wires = [Channel(0, 0, 2, 2, 640, "SLL", ("a",)), Channel(1, 1, 3, 2, 640, "SLL", ("a", "b"))]
    programs = device(
        core(0, message("TX", 0, 600)),
        core(1, message("TX", 1, 200)),
        core(2, message("RX", 0, 600)),
        core(3, message("RX", 1, 200)),
        channels=wires,
        links=[link("a", 8), link("b", 2)],
    )
    result = simulate([programs])
    assert cycles(result.latency_ps) == 100


def test_a_slow_consumer_fills_the_channel() -> None:
    """The consumer takes 300 cycles a message; TX is held by credits, and the interval is the consumer's."""
    wire = Channel(0, 0, 1, 2, 640, "SLL", ("a",))
    programs = device(
        core(0, message("TX", 0, 640)),
        core(
            1,
            message("RX", 0, 640, wait=bits(CX), post=bits(CX)),
            vector(300, bits(RX), bits(RX)),
            tokens=marking(CX_RX=1),
        ),
        channels=[wire],
        links=[link("a", 8)],
    )
    result = simulate([programs])
    assert cycles(result.interval_ps) == 380  # one slot: receive 80, compute 300
    stalls = {(q.rank, q.queue): q.stalls_ps for q in result.queues}
    assert stalls[0, "TX"] == {"channel full": 300 * CYCLE}


def test_skipped_instructions_take_a_cycle_and_move_their_tokens() -> None:
    """One frame, stages 0 and 2: iterations 0 and 1 skip the second vector, iterations 1 and 2 the first."""
    program = core(0, vector(100), vector(50, stage=2))
    result = simulate([device(program, stages=2)])
    assert cycles(result.latency_ps) == (100 + 1) + (1 + 1) + (1 + 50)
    assert cycles(result.interval_ps) == 150


def test_resident_weights_are_loaded_once() -> None:
    """Cold: 132 + 132 + 100; warm the first load takes a cycle; in the steady state LD has 133 cycles."""
    program = core(
        0,
        load(6400, flags=Flag.ONCE, space=Space.CONST),
        load(6400, bits(CX), bits(CX)),
        vector(100, bits(LD), bits(LD)),
        tokens=marking(CX_LD=2),
    )
    result = simulate([device(program)])
    assert cycles(result.first_ps) == 132 + 132 + 100
    assert cycles(result.latency_ps) == 1 + 132 + 100
    assert cycles(result.interval_ps) == 133
    bank = next(u for u in result.utilisation if u.kind == "bank")
    assert bank.amount == 6400  # the resident load is not in a frame


def test_clocks_of_their_own() -> None:
    """300 MHz: 116 cycles are 386,666.7 ps, rounded up."""
    result = simulate([device(core(0, vector(116), spec=engine(0, khz=300_000)))])
    assert result.latency_ps == 386_667


def host_message(channel: int, tensor: str, size: int, to_core: bool, stage: int = 0, replica: int = 0) -> HostMessage:
    return HostMessage(
        channel, 0, tensor, "u8", (size,), (0,), (1, 1, size), (size, size, 1), 1, to_core, stage, replica
    )


def test_host_feeds_and_takes_with_a_segment_before_and_behind() -> None:
    """pre 20 -> 640 bytes over 8 a cycle (80, latency 10) -> ST-free core: RX, CX 50, TX 160 bytes (20) -> post 30."""
    wires = [Channel(0, 0xFFFF, 0, 2, 640, "PCIe", ("in",)), Channel(1, 0, 0xFFFF, 2, 640, "PCIe", ("out",))]
    program = device(
        core(
            0,
            message("RX", 0, 640, post=bits(CX)),
            vector(50, bits(RX), bits(TX)),
            message("TX", 1, 160, wait=bits(CX)),
        ),
        channels=wires,
        links=[link("in", 8, 10), link("out", 8, 10)],
        host=[host_message(0, "x", 640, True), host_message(1, "y", 160, False)],
    )
    tasks = [HostTask("post", ("y",), ("result",), 30 * CYCLE), HostTask("pre", ("image",), ("x",), 20 * CYCLE)]
    result = simulate([program], host=tasks)
    assert cycles(result.latency_ps) == 20 + 80 + 10 + 50 + 20 + 10 + 30
    assert cycles(result.interval_ps) == 80 + 0  # the PCIe link; the processor needs 50
    slow = simulate([program], host=[HostTask("post", ("y",), ("result",), 90 * CYCLE), tasks[1]])
    assert cycles(slow.interval_ps) == 110


def test_replicas_share_the_frames() -> None:
    """Two replicas of 100 cycles each: one result every 50."""
    result = simulate([device(core(0, vector(100)), core(1, vector(100)), replicas=2)])
    assert cycles(result.interval_ps) == 50


def test_layers_are_timed_from_free_core_and_arrived_input() -> None:
    """Two layers of one tile on one core, the second's load waiting for the first's store (ST -> LD)."""
    debug = [DebugRow("c1", "c1#0", "", (), ""), DebugRow("c2", "c2#0", "", (), "")]
    program = core(
        0,
        load(640, bits(CX, ST), bits(CX)),
        load(1280, bits(CX, ST), bits(CX), debug=1),
        vector(100, bits(LD, ST), bits(LD, ST)),
        vector(200, bits(LD, ST), bits(LD, ST), debug=1),
        store(640, bits(CX), bits(CX, LD)),
        store(640, bits(CX), bits(CX, LD), debug=1),
        tokens=marking(CX_LD=2, ST_CX=2, ST_LD=1),
        debug=debug,
    )
    result = simulate([device(program)])
    first, second = result.tasks
    assert (first.task, cycles(first.latency_ps)) == ("c1#0", 42 + 100 + 42)
    assert (second.node, cycles(second.latency_ps)) == ("c2", 52 + 200 + 42)
    assert cycles(result.interval_ps) == 42 + 100 + 42 + 52 + 200 + 42
    assert (cycles(first.steady_ps), cycles(second.steady_ps)) == (184, 294)


def test_a_layer_is_not_charged_for_a_full_place() -> None:
    """A message of 200 cycles holds the one place of the result: the next result, done after 142, waits 58 for it."""
    wires = [Channel(0, 0, 0xFFFF, 4, 4096, "PCIE", ("out",))]
    program = device(
        core(
            0,
            load(640, bits(CX, ST), bits(CX)),
            vector(100, bits(LD, ST), bits(LD, ST)),
            store(640, bits(CX, TX), bits(CX, LD, TX)),
            message("TX", 0, 1600, wait=bits(ST), post=bits(ST)),
            tokens=marking(CX_LD=2, ST_CX=2, ST_LD=1, TX_ST=1),
            debug=[DebugRow("c", "c#0", "", (), "")],
        ),
        channels=wires,
        links=[link("out", 8, 10)],
        host=[host_message(0, "y", 1600, False)],
    )
    result = simulate([program])
    assert cycles(result.interval_ps) == 200 + 42
    assert cycles(result.tasks[0].latency_ps) == cycles(result.tasks[0].steady_ps) == 42 + 100 + 42


def test_a_deadlock_is_an_error_that_says_who_waits() -> None:
    program = core(0, load(64, bits(CX), bits(CX)), vector(100, bits(LD), bits(LD)))
    with pytest.raises(FvcError) as error:
        simulate([device(program)])
    assert error.value.code == "FVC490"
    assert "queue LD: LD 0 of iteration 0 waits for CX" in error.value.block()


def test_a_channel_without_its_link_is_an_error() -> None:
    wire = Channel(0, 0, 1, 1, 64, "SLL", ("nowhere",))
    with pytest.raises(FvcError, match="nowhere"):
        simulate([device(core(0, message("TX", 0, 64)), core(1, message("RX", 0, 64)), channels=[wire])])


def test_an_engine_without_a_clock_is_an_error() -> None:
    with pytest.raises(FvcError, match="clock"):
        simulate([device(core(0, vector(100), spec=engine(0, khz=0)))])


def test_same_run_twice_is_the_same() -> None:
    spec = [engine(r, bank="hbm", rate=17 * GB + r * 0) for r in range(3)]
    programs = [device(*(tile_core(r, 6400 + 640 * r, 100, 3200, spec=spec[r]) for r in range(3)))]
    assert simulate(programs) == simulate(programs)
    assert trace(programs) == trace(programs)


def test_trace_is_what_perfetto_reads() -> None:
    document = json.loads(trace([device(tile_core(0, 6400, 100, 3200))], frames=2))
    events = document["traceEvents"]
    assert {e["ph"] for e in events} == {"M", "X", "C"}
    spans = [e for e in events if e["ph"] == "X"]
    assert [(e["name"], e["ts"], e["dur"]) for e in spans[:2]] == [("LD", 0.0, 0.132), ("LD", 0.132, 0.132)]
    assert len(spans) == 6 and all({"pid", "tid", "args"} <= e.keys() for e in spans)
    tracks = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert {tracks[e["pid"], e["tid"]] for e in spans} == {"LD", "CX", "ST"}
    counter = [e for e in events if e["ph"] == "C"]
    assert counter[0]["args"] == {"GB/s": 64.0} and counter[-1]["args"] == {"GB/s": 0.0}
