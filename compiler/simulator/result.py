"""What a simulation says: interval, latency, layers, stalls by cause and utilisation, as numbers and as JSON."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.simulator.build import Built
from compiler.simulator.engine import MEAN_OF, Log

SCHEMA = "fvc.simulation/1"


@dataclass(frozen=True, slots=True)
class TaskTime:
    """One layer slice on one core. Durations run from when the core turns to it and its input has arrived, to its end,
    less the time that its result waited for its place (an earlier frame's message may still hold it).

    start_ps, end_ps, latency_ps: in the run of one frame; steady_ps: mean over the frames of the steady state."""

    rank: int
    engine: str
    task: str
    node: str
    start_ps: int
    end_ps: int
    latency_ps: int
    steady_ps: int


@dataclass(frozen=True, slots=True)
class QueueTime:
    """One queue in the steady state, averages a frame: busy (of that by contention), stalled by cause."""

    rank: int  # -1: the host
    queue: str
    busy_ps: int
    contention_ps: int
    stalls_ps: dict[str, int]


@dataclass(frozen=True, slots=True)
class Utilisation:
    """amount a frame against what the interval allows; kind "mac" counts multiply-accumulates, the others bytes."""

    kind: str
    name: str
    amount: int
    capacity: int

    @property
    def percent(self) -> float:
        return 100.0 * self.amount / self.capacity if self.capacity else 0.0


@dataclass(frozen=True, slots=True)
class SimResult:
    """interval_ps: distance of two results in the steady state (of all replicas together). latency_ps: one frame
    through the empty machine, resident weights loaded. first_ps: the first result from a cold start, resident weights
    included. frames: results seen; settled: the interval stood still before the run ended."""

    interval_ps: int
    latency_ps: int
    first_ps: int
    frames: int
    settled: bool
    replicas: int
    done_ps: tuple[int, ...]
    tasks: tuple[TaskTime, ...]
    queues: tuple[QueueTime, ...]
    utilisation: tuple[Utilisation, ...]
    instructions: int

    @property
    def interval_ns(self) -> float:
        return self.interval_ps / 1000

    @property
    def latency_ns(self) -> float:
        return self.latency_ps / 1000

    @property
    def frames_per_second(self) -> float:
        return 1e12 / self.interval_ps if self.interval_ps else 0.0

    def as_json(self) -> dict[str, object]:
        """A document of schema fvc.simulation/1; times in integer picoseconds."""
        return {
            "schema": SCHEMA,
            "interval_ps": self.interval_ps,
            "latency_ps": self.latency_ps,
            "first_ps": self.first_ps,
            "fps": round(self.frames_per_second, 3),
            "frames": self.frames,
            "settled": self.settled,
            "replicas": self.replicas,
            "instructions": self.instructions,
            "tasks": [
                {
                    "rank": t.rank,
                    "engine": t.engine,
                    "task": t.task,
                    "node": t.node,
                    "start_ps": t.start_ps,
                    "end_ps": t.end_ps,
                    "latency_ps": t.latency_ps,
                    "steady_ps": t.steady_ps,
                }
                for t in self.tasks
            ],
            "queues": [
                {
                    "rank": q.rank,
                    "queue": q.queue,
                    "busy_ps": q.busy_ps,
                    "contention_ps": q.contention_ps,
                    "stalls_ps": q.stalls_ps,
                }
                for q in self.queues
            ],
            "utilisation": [
                {"kind": u.kind, "name": u.name, "amount": u.amount, "percent": round(u.percent, 2)}
                for u in self.utilisation
            ],
        }


def steady_interval(done: list[int], skip: int) -> int:
    """Slope of the completion times of frames `skip`, `skip` + 1, …, rounded: between the means of two blocks of whole
    bursts at their end (channels of four messages let frames through in fours), of few a least-squares line."""
    points = done[min(skip, max(len(done) - 2, 0)) :]
    n = len(points)
    if half := n // 2 // MEAN_OF * MEAN_OF:
        rise = sum(points[-half:]) - sum(points[-2 * half : -half])
        return (2 * rise + half * half) // (2 * half * half)
    if n < 2:
        return points[0] if points else 0
    # sum (i - mean)(t - mean) / sum (i - mean)^2 in integers: indices doubled so that their mean is whole
    top = sum((2 * i - (n - 1)) * t for i, t in enumerate(points))
    bottom = sum((2 * i - (n - 1)) ** 2 for i in range(n))
    return (2 * 2 * top + bottom) // (2 * bottom)


def task_durations(built: Built, log: Log) -> dict[tuple[int, int], int]:
    """(task, frame) -> picoseconds from when its core was free for it and its input there, to its end, without the time
    in which its first finished tile waited for a message that still held the place of its result; never less than its
    arithmetic (tiles behind the one that waits are computed meanwhile)."""
    by_core: dict[int, list[tuple[int, int, int, tuple[int, int]]]] = {}
    for key, (start, end, arrived, held) in log.tasks.items():
        by_core.setdefault(built.tasks[key[0]].core, []).append((end, max(start, arrived), held, key))
    out = {}
    for entries in by_core.values():
        before = 0
        for end, start, held, key in sorted(entries):
            alone = end - max(before, start) - held if before < end else 0
            out[key] = max(alone, built.tasks[key[0]].compute_ps)
            before = max(before, end)
    return out


def collect(built: Built, log: Log, single: Built, single_log: Log, window: int, length: int) -> SimResult:
    """built, log: the run of many frames; single: that of one. `window`: the first frame of the steady state; results
    from frame `length` on, when the input runs dry, do not count."""
    done = log.done[:length]
    local = steady_interval(done, window)
    once = task_durations(single, single_log)
    often = task_durations(built, log)
    last = len(done)
    first = min(window, max(last - 1, 0))
    tasks = []
    for k, name in enumerate(built.tasks):
        entry = single_log.tasks.get((k, 0), [0, 0, 0, 0])
        seen = [often[k, f] for f in range(first, last) if (k, f) in often]
        engine = built.cores[name.core].engine.id
        tasks.append(
            TaskTime(
                name.rank, engine, name.task, name.node, entry[0], entry[1], once.get((k, 0), 0),
                sum(seen) // len(seen) if seen else 0,
            )
        )  # fmt: skip
    queues = []
    for actor in built.actors:
        if actor.body:
            rank = built.cores[actor.core].rank if actor.core >= 0 else -1
            rounds = max(actor.iteration - (window + built.stages if window else 0), 1)
            busy, contention, causes = actor.sealed
            stalls = {cause: ps // rounds for cause, ps in sorted(causes.items())}
            queues.append(QueueTime(rank, actor.name, busy // rounds, contention // rounds, stalls))
    use = []
    for core, operations in zip(built.cores, built.mac_operations, strict=True):
        engine_spec = core.engine
        per_interval = local * engine_spec.clock_khz * engine_spec.tm * engine_spec.tn // 10**9
        use.append(Utilisation("mac", engine_spec.id, operations, per_interval))
    for engine, ps in (built.netlists.busy_ps() if built.netlists is not None else {}).items():
        use.append(Utilisation("engine", engine, ps, local))
    for key, resource in built.resources.items():
        use.append(Utilisation(resource.kind, key, built.frame_bytes[key], resource.capacity * local // 10**12))
    return SimResult(
        interval_ps=-(-local // built.replicas),
        latency_ps=single_log.done[0] if single_log.done else 0,
        first_ps=done[0] if done else 0,
        frames=len(done) * built.replicas,
        settled=log.settled,
        replicas=built.replicas,
        done_ps=tuple(done),
        tasks=tuple(tasks),
        queues=tuple(queues),
        utilisation=tuple(use),
        instructions=built.instructions,
    )
