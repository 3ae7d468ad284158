"""A second simulator, slow and plain: exact fractions, one global clock, brute-force max-min. It shares no code with
compiler/simulator, only docs/machine.md. Handles LD, ST (dense, whole bursts), VACC, TX, RX and any marking."""

from __future__ import annotations

from fractions import Fraction

from compiler.isa.program import DeviceProgram, Instruction

SETUP, FILL, BURST = 32, 16, 64


class Lane:
    """One queue: what it is doing and until when."""

    def __init__(self, core, queue, listed):
        self.core, self.queue, self.listed = core, queue, listed
        self.at = 0  # instructions done, over all iterations
        self.phase = "idle"
        self.until = Fraction(0)
        self.left = Fraction(0)
        self.cap = None
        self.loads: list[str] = []


def simulate(program: DeviceProgram, frames: int) -> list[Fraction]:
    """For every frame: the time in cycles of a 1 GHz clock at which its last instruction ends."""
    iterations = frames + program.stages
    channels = {c.id: c for c in program.channels}
    capacity = {x.id: Fraction(x.bits_per_second, 8 * 10**9) for x in program.links}
    latency = {c.id: sum(x.latency_ns for x in program.links if x.id in c.links) for c in program.channels}
    lanes, tokens = [], {}
    for core in program.cores:
        capacity["bank " + core.engine.bank] = Fraction(core.engine.bank_bytes_per_second, 10**9)
        for queue, listed in core.queues.items():
            if listed:
                lanes.append(Lane(core, queue, listed))
        for a in range(6):
            for b in range(6):
                tokens[core.rank, a, b] = core.marking[a][b]
    places = {c: channels[c].capacity for c in channels}
    heads: dict[int, list[Fraction]] = {c: [] for c in channels}
    tails: dict[int, list[Fraction]] = {c: [] for c in channels}
    done = [Fraction(0)] * frames
    now = Fraction(0)

    def current(lane: Lane) -> tuple[Instruction, int, bool]:
        ins = lane.listed[lane.at % len(lane.listed)]
        frame = lane.at // len(lane.listed) - ins.stage
        return ins, frame, 0 <= frame < frames

    def can_start(lane: Lane) -> bool:
        if lane.phase != "idle" or lane.at >= iterations * len(lane.listed):
            return False
        ins, _, effect = current(lane)
        for q in range(6):
            if ins.wait >> q & 1 and not tokens[lane.core.rank, q, lane.queue]:
                return False
        if effect and ins.op == "TX" and not places[ins.fields["channel"]]:
            return False
        if effect and ins.op == "RX":
            queue = heads[ins.fields["channel"]]
            return bool(queue) and queue[0] <= now
        return True

    def start(lane: Lane) -> None:
        ins, _, effect = current(lane)
        for q in range(6):
            tokens[lane.core.rank, q, lane.queue] -= ins.wait >> q & 1
        bank, engine = "bank " + lane.core.engine.bank, lane.core.engine
        size = ins.fields.get("n0", 0)
        lane.cap = None
        if not effect:
            lane.phase, lane.until = "fixed", now + 1
        elif ins.op == "VACC":
            lane.phase, lane.until = "fixed", now + -(-ins.fields["count"] // engine.vector_lanes) + FILL
        elif ins.op in ("LD", "ST"):
            port = engine.ld_bytes_per_cycle if ins.op == "LD" else engine.st_bytes_per_cycle
            lane.phase, lane.until, lane.left, lane.loads = "setup", now + SETUP, Fraction(size), [bank]
            lane.cap = Fraction(size, -(-size // port))
        elif ins.op == "TX":
            channel = channels[ins.fields["channel"]]
            places[channel.id] -= 1
            heads[channel.id].append(now + latency[channel.id])
            lane.phase, lane.left, lane.loads = "moving", Fraction(size), [bank, *channel.links]
        else:
            channel = channels[ins.fields["channel"]]
            heads[channel.id].pop(0)
            lane.phase, lane.left, lane.loads = "moving", Fraction(size), [bank]
            lane.cap = min(capacity[x] for x in channel.links)

    def finish(lane: Lane) -> None:
        ins, frame, effect = current(lane)
        for q in range(6):
            tokens[lane.core.rank, lane.queue, q] = tokens[lane.core.rank, lane.queue, q] + (ins.post >> q & 1)
        if effect and ins.op == "RX":
            places[ins.fields["channel"]] += 1
        if effect:
            done[frame] = max(done[frame], now)
        lane.phase = "idle"
        lane.at += 1

    def rates() -> dict[int, Fraction]:
        """Raise all rates together; stop whoever meets a cap or a full resource; again."""
        moving = [k for k, lane in enumerate(lanes) if lane.phase == "moving"]
        rate: dict[int, Fraction] = {k: Fraction(0) for k in moving}
        rising = set(moving)
        while rising:
            steps = []
            for k in rising:
                if lanes[k].cap is not None:
                    steps.append(lanes[k].cap - rate[k])
            for name, room in capacity.items():
                users = [k for k in moving if name in lanes[k].loads]
                growing = [k for k in users if k in rising]
                if growing:
                    steps.append((room - sum(rate[k] for k in users)) / len(growing))
            step = min(steps)
            for k in rising:
                rate[k] += step
            full = {
                name
                for name, room in capacity.items()
                if sum(rate[k] for k in moving if name in lanes[k].loads) >= room
            }
            rising = {k for k in rising if rate[k] != lanes[k].cap and not any(x in full for x in lanes[k].loads)}
        return rate

    while True:
        progress = True
        while progress:
            progress = False
            for lane in lanes:
                if lane.phase == "fixed" and lane.until <= now:
                    finish(lane)
                    progress = True
                elif lane.phase == "setup" and lane.until <= now:
                    lane.phase = "moving"
                    progress = True
                elif lane.phase == "moving" and lane.left <= 0:
                    ins, _, _ = current(lane)
                    if ins.op == "TX":
                        tails[ins.fields["channel"]].append(now + latency[ins.fields["channel"]])
                        finish(lane)
                    elif ins.op == "RX":
                        lane.phase = "tail"
                    else:
                        finish(lane)
                    progress = True
                elif lane.phase == "tail":
                    queue = tails[current(lane)[0].fields["channel"]]
                    if queue and queue[0] <= now:
                        queue.pop(0)
                        finish(lane)
                        progress = True
                if can_start(lane):
                    start(lane)
                    progress = True
        speed = rates()
        waits = [lane.until - now for lane in lanes if lane.phase in ("fixed", "setup")]
        waits += [lanes[k].left / r for k, r in speed.items()]
        waits += [t - now for queue in (*heads.values(), *tails.values()) for t in queue if t > now]
        if not waits:
            break
        step = min(waits)
        for k, r in speed.items():
            lanes[k].left -= r * step
        now += step
    assert all(lane.at == iterations * len(lane.listed) for lane in lanes), "deadlock"
    return done
