"""Which layers a frame waits for: the chain of events that its latency consists of, a share of it to each layer.

Needs a network in which one frame has been played from rest; every firing starts when the firing before it ends, when a
word is there, or when a place is free, so the chain is followed back from the last result, run by run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.isa.program import DeviceProgram
from compiler.isa.stream.counts import Ints
from compiler.isa.stream.flow import Network
from compiler.isa.stream.network import Work, boundless, build
from compiler.ops.stream.netlists import Assembly

MOST_RUNS = 200_000  # of one chain that are followed


def waited_ps(
    assembly: Assembly, programs: Sequence[DeviceProgram], work: Sequence[Work]
) -> tuple[int, dict[str, int]]:
    """The latency of one frame through the empty machine whose FIFOs never fill (as `measure.latency_ps`), and for each
    layer (`own_name`) how long the last result of some copy and output waits for its units at work."""
    timed = build(programs, work, boundless(programs))
    timed.network.play(1)
    owner = {k: assembly.nets[p].owners[unit] for (p, unit), actors in timed.units.items() for k in actors}
    out: dict[str, int] = {}
    for sink in timed.sinks:
        own: dict[str, int] = {}
        for actor, ps in chain(timed.network, sink).items():
            if actor in owner:
                own[owner[actor]] = own.get(owner[actor], 0) + ps
        for layer, ps in own.items():
            out[layer] = max(out.get(layer, 0), ps)
    return max(timed.network.actors[k].end_ps for k in timed.sinks), out


def chain(net: Network, sink: int) -> dict[int, int]:
    """Actor -> picoseconds for which the end of `sink` waits for it to work, in the first frame played."""
    out: dict[int, int] = {}
    breaks: dict[int, Ints] = {}
    number, firing = sink, len(net.actors[sink].cost_ps) - 1
    for _ in range(MOST_RUNS):
        a = net.actors[number]
        starts = a.starts[0]
        if number not in breaks:  # firings that do not follow straight upon the one before
            breaks[number] = np.flatnonzero(starts[1:] > starts[:-1] + a.cost_ps[:-1]) + 1
        own = breaks[number]
        at = int(np.searchsorted(own, firing, side="right"))
        first = int(own[at - 1]) if at else 0
        out[number] = out.get(number, 0) + int(starts[firing] + a.cost_ps[firing] - starts[first])
        before = _awaited(net, number, first)
        if before is None:
            break
        number, firing = before
    return out


def _awaited(net: Network, number: int, firing: int) -> tuple[int, int] | None:
    """The firing of another actor that this one waited for; None for what begins by itself."""
    a = net.actors[number]
    start = a.starts[0][firing]
    for i in a.inputs:
        s, need = net.streams[i.stream], int(i.need[firing])
        if need and s.producer >= 0:
            maker = next(o.maker for o in net.actors[s.producer].outputs if o.stream == i.stream)
            if _end(net, s.producer, maker[need - 1]) + net.actors[s.producer].latency_ps + s.delay_ps == start:
                return s.producer, int(maker[need - 1])
    for o in a.outputs:
        s = net.streams[o.stream]
        word = int(o.made[firing]) - 1 - s.depth if s.depth is not None else -1
        if word >= 0 and s.consumer >= 0:
            freer = next(i.freer for i in net.actors[s.consumer].inputs if i.stream == o.stream)
            if _end(net, s.consumer, freer[word]) + s.delay_ps == start:
                return s.consumer, int(freer[word])
    return None


def _end(net: Network, number: int, firing: int) -> int:
    a = net.actors[number]
    return int(a.starts[0][firing] + a.cost_ps[firing])
