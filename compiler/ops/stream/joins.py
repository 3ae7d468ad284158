"""What joins layers, priced before the netlist is there: FIFOs, duplicators, width converters.

Every engine hands on one stream, through a FIFO as wide as its word; several readers take a duplicator and a FIFO each.
Where the reader wants another word, a converter and a FIFO stand between. On several devices the readers may be
elsewhere and take the tensor a lane at a time, so less is certain there. All of it is a lower bound on what
`assemble` builds with FIFOs of at least LEAST_DEPTH words.
"""

from __future__ import annotations

from collections.abc import Container
from functools import lru_cache
from math import gcd, lcm

from compiler.ir.graph import Graph, Node
from compiler.isa.stream.ports import Port
from compiler.isa.stream.resources import fifo_resources, unit_resources
from compiler.isa.stream.steady import FREE_DEPTH
from compiler.isa.stream.table import LUTRAM
from compiler.ops.stream.parts import Draft, stream_inputs, view
from device_db.model import Resources

LEAST_DEPTH = FREE_DEPTH  # of every FIFO of a plan: nearly as cheap as two words, and shorter waits are never felt


def fifo(width_bits: int, family: str) -> Resources:
    """The least FIFO of a stream."""
    return fifo_resources(width_bits, LEAST_DEPTH, LUTRAM, family)


@lru_cache(maxsize=64)
def readers(graph: Graph) -> dict[str, int]:
    """Tensor -> streams that leave its maker: layers that read it, and the host once (also what nobody reads)."""
    out: dict[str, int] = {}
    for n in graph.nodes:
        for name in stream_inputs(graph, n):
            out[name] = out.get(name, 0) + 1
    host = {graph.root(name) for s in graph.host_segments for name in s.inputs}
    for name in sorted(host | {graph.root(name) for name in graph.outputs}):
        out[name] = out.get(name, 0) + 1
    return dict.fromkeys(unread(graph, out), 1) | out


def unread(graph: Graph, read: Container[str]) -> list[str]:
    """Results of layers that are not among the tensors that something reads."""
    return [n.y for n in graph.nodes if n.y not in read]


def handed_on(graph: Graph, node: Node, word: Port, family: str, devices: int) -> Resources:
    """What the streams that leave an engine take at least, converters apart. word: of its result."""
    count = readers(graph).get(node.y, 0)
    total = fifo(word.width_bits, family)
    if count < 2:
        return total
    if devices > 1:
        return _times(count, fifo(word.bits, family)) + total
    n, c, h, w = view(graph, node.y)
    f = {"pe": word.pe, "x_bits": word.bits, "x_signed": int(word.signed)}
    f |= {"pixels": n * h * w, "channels": c, "outputs": count}
    return _times(count + 1, total) + unit_resources(Draft("DUP", f).instruction(), family)


def converted(word: Port, lanes: int, family: str) -> Resources:
    """What a stream of `word` takes beyond its own FIFO at the least where its reader wants `lanes` elements a word."""
    total, have = Resources(), word.pe
    for want in steps(word.pe, lanes):
        f = {"pe": have, "pe_out": want, "x_bits": word.bits, "x_signed": int(word.signed)}
        unit = Draft("DWC", f | {"elements": word.words * word.pe})
        total = total + unit_resources(unit.instruction(), family) + fifo(want * word.bits, family)
        have = want
    return total


def steps(have: int, want: int, elements: int = 0, cycles: int = 0) -> list[int]:
    """Words by which a stream of `have` elements a word comes to `want`.

    Where neither divides the other, by way of what divides both; if that would take the frame's `elements` more than
    `cycles`, by way of a multiple of both, which is as quick as the quicker end but wider."""
    if have == want:
        return []
    if have % want == 0 or want % have == 0:
        return [want]
    narrow, wide = gcd(have, want), lcm(have, want)
    quick = elements // narrow <= cycles or elements % wide != 0
    return [narrow if quick else wide, want]


def _times(count: int, amount: Resources) -> Resources:
    total = Resources()
    for _ in range(count):
        total = total + amount
    return total
