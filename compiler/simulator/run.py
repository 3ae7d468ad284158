"""The simulation as two calls: needs the programs of all devices, gives a SimResult or a trace."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.isa.program import DeviceProgram
from compiler.simulator.build import build
from compiler.simulator.engine import Engine
from compiler.simulator.host import HostTask
from compiler.simulator.result import SimResult, collect
from compiler.simulator.trace import trace_json

_MOST_FRAMES = 40  # if the interval does not settle before
_TRACE_FRAMES = 4
_SETTLING = 4  # results (the fill lies before the first) that are left out of the interval


def simulate(programs: Sequence[DeviceProgram], frames: int | None = None, host: Sequence[HostTask] = ()) -> SimResult:
    """Times the programs: one run of many frames with the input always waiting, and one of a single frame.

    frames: length of the first run, in frames of one replica; None: until the interval stands still.
    host: the host segments with their times (`host_tasks` reads them from a bundle's models); graph inputs are always
    there, and an output counts when it has reached the host.
    Raises FvcError FVC490 if the programs deadlock or name what is not there.
    """
    if any(p.fabric is not None for p in programs) and not any(p.cores for p in programs):
        from compiler.simulator.stream import simulate_fabrics

        return simulate_fabrics(programs, frames, host)
    single = build(programs, host, detail=False)
    single_log = Engine(single, 1, warm=True).run()
    built = build(programs, host, detail=False)
    length = _MOST_FRAMES if frames is None else max(frames, 1)
    window = min(_SETTLING, max(length - 2, 0))
    endless = length + 4 * (built.stages + 1)  # the input has not run dry when the last result that counts is there
    log = Engine(built, endless, warm=False, enough=length, settle=frames is None, window=window).run()
    return collect(built, log, single, single_log, window, length)


def trace(programs: Sequence[DeviceProgram], frames: int | None = None, host: Sequence[HostTask] = ()) -> str:
    """A Perfetto trace (JSON text) of `frames` frames (default 4) from a cold start.

    About 200 bytes an instruction and frame. Raises FvcError FVC490 as `simulate` does."""
    if any(p.fabric is not None for p in programs) and not any(p.cores for p in programs):
        from compiler.simulator.stream import trace_fabrics

        return trace_fabrics(programs, frames, host)
    built = build(programs, host, detail=True)
    for resource in built.resources.values():
        resource.log = []
    length = _TRACE_FRAMES if frames is None else max(frames, 1)
    log = Engine(built, length, warm=False, record=True).run()
    return trace_json(built, log)
