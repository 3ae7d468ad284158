"""A Chrome/Perfetto trace of a run: a track a queue, a counter a bank and link. Open it in ui.perfetto.dev.

Format: "Trace Event Format" of the Chromium project; complete events (X), counters (C) and names (M).
"""

from __future__ import annotations

import json
from decimal import Decimal

from compiler.simulator.build import HOST, Built
from compiler.simulator.engine import Log

_COUNTERS = 10_000  # process ids: cores by their index + 1, the host and the counters after them
_HOST = 9_999


def _microseconds(picoseconds: int) -> float:
    return float(Decimal(picoseconds) / 1_000_000)


def trace_events(built: Built, log: Log) -> dict[str, object]:
    """The trace as a JSON object; equal runs give equal objects."""
    events: list[dict[str, object]] = []

    def name(pid: int, label: str, tid: int | None = None) -> None:
        kind = "process_name" if tid is None else "thread_name"
        events.append({"ph": "M", "name": kind, "pid": pid, "tid": tid or 0, "args": {"name": label}})

    for index, core in enumerate(built.cores):
        name(index + 1, f"rank {core.rank} {core.engine.id}")
    name(_HOST, "host")
    name(_COUNTERS, "banks and links, GB/s")
    place: dict[int, tuple[int, int]] = {}
    for actor in built.actors:
        if actor.body:
            pid = _HOST if actor.core == HOST else actor.core + 1
            place[actor.index] = (pid, actor.index + 1)
            name(pid, actor.name, actor.index + 1)
    labels = [{step.position: step for step in actor.body} for actor in built.actors]
    for owner, index, opcode, frame, start, end in sorted(log.events, key=lambda e: (e[4], e[0], e[1])):
        pid, tid = place[owner]
        step = labels[owner][index]
        args: dict[str, object] = {"frame": frame, "instruction": index}
        if step.task >= 0:
            args["task"], args["node"] = built.tasks[step.task].task, built.tasks[step.task].node
        events.append(
            {
                "ph": "X",
                "name": f"{opcode} {args['task']}" if "task" in args else opcode,
                "cat": "instruction" if pid != _HOST else "host",
                "pid": pid,
                "tid": tid,
                "ts": _microseconds(start),
                "dur": _microseconds(end - start),
                "args": args,
            }
        )
    for key, resource in built.resources.items():
        for time, rate in resource.log or []:
            value = round(rate * 1000, 4)  # bytes a picosecond are terabytes a second
            at = _microseconds(time)
            events.append({"ph": "C", "name": key, "pid": _COUNTERS, "tid": 0, "ts": at, "args": {"GB/s": value}})
    return {"displayTimeUnit": "ns", "traceEvents": events}


def trace_json(built: Built, log: Log) -> str:
    """The trace as the text of a .json file."""
    return json.dumps(trace_events(built, log), ensure_ascii=True, separators=(",", ":"))
