"""All units of a plan on their dies and the streams and messages between them, as docs/streaming.md has them.

A tensor comes once to a device: the first layer there that reads it has the receiver. Where several read a stream a
duplicator hands it on, where words differ converters stand before the reader. A stream's FIFO belongs to the layer that
reads it, with its duplicator's and senders' behind: in `fifos` they are in the order in which plan.json lists them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd, lcm

from compiler.ir.graph import Conv
from compiler.isa.stream.table import BRAM, LUTRAM, MEMORIES, URAM
from compiler.partition.check.stream import matrix, simple
from compiler.partition.check.stream.pieces import Model, Piece
from compiler.partition.check.stream.words import Engine, Fold, Illegal, Word, converter, divides, fewest_lanes, typed
from cost_models.primitives import PS_PER_SECOND, ceil_div
from device_db.model import Cluster, DieRef, MemoryBank
from device_db.topology import route

BRIDGE_LUTRAM_BITS, BRIDGE_URAM_BITS = 1 << 15, 1 << 20
PAGE_BYTES = 4096  # readers of a bank begin on one
Own = tuple[int, str]  # copy of the net, piece


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a piece stands, how it is folded, and what its engine is called."""

    ref: DieRef
    fold: Fold
    engine: str


@dataclass(frozen=True, slots=True)
class Placed:
    """A unit of the netlist."""

    op: str
    fields: dict[str, int]
    cycles: int
    ref: DieRef
    owner: Own


@dataclass(frozen=True, slots=True)
class End:
    """A stream where it leaves a unit."""

    unit: int
    port: int
    word: Word


@dataclass(frozen=True, slots=True)
class Stream:
    """end to port `port` of unit `target`. tensor: what it carries, where it comes from another engine."""

    end: End
    target: int
    port: int
    owner: Own
    tensor: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """A tensor between devices or from and to the host (None), whole, once a frame; route: links between port dies."""

    tensor: str
    copy: int
    source: Own | None
    target: Own | None
    source_device: int | None
    target_device: int | None
    bytes: int
    route: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Boundary:
    """Of a region: bridges on one die, with frame slots by (tensor, whether it leaves)."""

    ref: DieRef
    stage: int
    lag: int
    frames: Mapping[tuple[str, bool], int]


@dataclass(slots=True)
class Netlist:
    units: list[Placed] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    ports: dict[int, int] = field(default_factory=dict)  # SRC or SNK -> its message
    banks: dict[int, tuple[int, MemoryBank]] = field(default_factory=dict)  # MEM -> number of its bank, the bank

    def fifos(self, owner: Own) -> list[Stream]:
        return [s for s in self.streams if s.owner == owner]

    def append(self, more: Netlist) -> None:
        """Another one behind this one, its units and streams alone."""
        base = len(self.units)
        self.units += more.units
        for s in more.streams:
            end = End(base + s.end.unit, s.end.port, s.end.word)
            self.streams.append(Stream(end, base + s.target, s.port, s.owner, s.tensor))


def engine_of(model: Model, p: Piece, fold: Fold) -> Engine:
    """The units of a piece. Raises Illegal for a fold that it cannot have."""
    if isinstance(p.node, Conv):
        matrix.check_fold(model, p, fold)
        return matrix.build(model, p, fold)
    divides(fold.pe, simple.lanes_of(model, p.node), "PE")
    if (fold.simd, fold.variant, fold.memory) != (1, "hls", MEMORIES[LUTRAM]):
        raise Illegal(f"SIMD {fold.simd}, variant {fold.variant}, memory {fold.memory} of a layer without weights")
    return simple.build(model, p.node, fold.pe)


def netlist(
    model: Model,
    cluster: Cluster,
    seats: Mapping[Own, Seat],
    copies: int,
    inside: Sequence[str] | None = None,
    boundary: Boundary | None = None,
) -> Netlist:
    """inside: the layers of a region, whose boundary is one of bridges; else all. Raises Illegal."""
    return _Builder(model, cluster, seats, inside, boundary).run(copies)


class _Builder:
    def __init__(
        self,
        model: Model,
        cluster: Cluster,
        seats: Mapping[Own, Seat],
        inside: Sequence[str] | None,
        boundary: Boundary | None,
    ) -> None:
        self.model, self.cluster, self.seats, self.boundary = model, cluster, seats, boundary
        graph = model.graph
        self.pieces = [p for p in model.pieces if inside is None or p.node.name in inside]
        self.readers: dict[str, list[Piece]] = {}
        for p in self.pieces:
            for name in p.reads:
                self.readers.setdefault(name, []).append(p)
        mine = {p.node.name for p in self.pieces}
        self.left = {graph.root(name) for name in graph.outputs}  # tensors that something else reads
        for step in graph.steps:
            if step.name not in mine:
                self.left |= {graph.root(name) for name in step.inputs}
        self.left |= {p.makes for p in self.pieces if p.makes not in self.readers}  # what nobody reads ends at the host
        self.engines: dict[Own, Engine] = {}
        self.out = Netlist()
        self.free: dict[tuple[int, str], list[End]] = {}  # (device, tensor) -> ends that nobody reads yet
        self.coming: dict[tuple[int, str], int] = {}  # (device, tensor) -> message from another device
        self.copy = 0

    def run(self, copies: int) -> Netlist:
        for p in self.pieces:
            for copy in range(copies):
                self.engines[(copy, p.key)] = engine_of(self.model, p, self.seats[(copy, p.key)].fold)
        banks = banks_of(self.cluster, self.seats, self.engines)
        for self.copy in range(copies):
            self.free.clear()
            self.coming.clear()
            for p in self.pieces:
                self._piece(p, banks)
        return self.out

    def _unit(self, op: str, fields: dict[str, int], cycles: int, ref: DieRef, owner: Own) -> int:
        self.out.units.append(Placed(op, fields, cycles, ref, owner))
        return len(self.out.units) - 1

    def _device(self, p: Piece) -> int:
        return self.seats[(self.copy, p.key)].ref.device

    def _near(self, tensor: str, device: int) -> list[Piece]:
        """Readers of a tensor on a device, one a stream."""
        return [p for p in self.readers.get(tensor, ()) if self._device(p) == device]

    def _piece(self, p: Piece, banks: Mapping[Own, tuple[int, MemoryBank]]) -> None:
        owner = (self.copy, p.key)
        seat, engine = self.seats[owner], self.engines[owner]
        device = seat.ref.device
        for k, tensor in enumerate(p.reads):
            if (device, tensor) not in self.free:
                self._receive(tensor, device, owner, engine, k)
        ends = [self.free[(device, tensor)].pop(0) for tensor in p.reads]
        ends = [self._converted(end, engine, k, seat.ref, owner, p.reads[k]) for k, end in enumerate(ends)]
        base = len(self.out.units)
        for u in engine.units:
            ref = seat.ref
            if u.op == "MEM":
                ref = DieRef(device, banks[owner][1].die)
                self.out.banks[len(self.out.units)] = banks[owner]
            self._unit(u.op, u.fields, u.cycles, ref, owner)
        for k, (tensor, end) in enumerate(zip(p.reads, ends, strict=True)):
            unit, port, _ = engine.wants[k]
            self.out.streams.append(Stream(end, base + unit, port, owner, tensor))
        for s in engine.inner:
            self.out.streams.append(Stream(End(base + s.source.unit, 0, s.source.word), base + s.target, s.port, owner))
        assert engine.gives is not None
        self._hand_on(p, owner, End(base + engine.gives.unit, 0, engine.gives.word))

    def _converted(self, end: End, engine: Engine, k: int, ref: DieRef, owner: Own, tensor: str) -> End:
        """The stream in words that input k takes: where neither width divides the other by way of their divisor, or of
        their multiple where that would be slower than both the stream and the reader."""
        lanes, word = engine.wants[k][2].lanes, end.word
        steps = [lanes] if lanes != word.lanes else []
        if lanes % word.lanes and word.lanes % lanes:
            narrow, wide = gcd(lanes, word.lanes), lcm(lanes, word.lanes)
            late = word.elements // narrow > max(engine.cycles, word.count)
            steps = [wide if late and word.elements % wide == 0 else narrow, lanes]
        for step in steps:
            made = Word(step, word.element, word.elements)
            unit = self._unit("DWC", converter(end.word, step), max(made.count, end.word.count), ref, owner)
            self.out.streams.append(Stream(end, unit, 0, owner, tensor))
            end = End(unit, 0, made)
        return end

    def _receive(self, tensor: str, device: int, owner: Own, engine: Engine, k: int) -> None:
        """The receiver of a tensor that is not made on this device, for all that read it here; engine: the first that
        does, as its input k. Words that go on to another die are as narrow as keep up with it."""
        number = self.coming.get((device, tensor))
        if number is None:
            number = self._message(tensor, None, owner, None, device)
        made, near = self.model.elements(tensor), self._near(tensor, device)
        lanes = gcd(engine.wants[k][2].lanes, self.model.view(tensor)[1])
        stands = self._port_at(number, "SRC", device)
        if {self.seats[(self.copy, p.key)].ref for p in near} != {stands}:
            lanes = fewest_lanes(lanes, made, engine.cycles)
        word = Word(lanes, self.model.element(tensor), made)
        end = End(self._port("SRC", number, word, device, owner), 0, word)
        self.free[(device, tensor)] = self._spread(tensor, end, owner, len(near))

    def _hand_on(self, p: Piece, owner: Own, end: End) -> None:
        """To the readers on this device, to each other device that has some, and to what is outside."""
        here = self._device(p)
        away = sorted({self._device(r) for r in self.readers.get(p.makes, ())} - {here})
        numbers = []
        for device in away:
            first = (self.copy, self._near(p.makes, device)[0].key)
            numbers.append(self._message(p.makes, owner, first, here, device))
            self.coming[(device, p.makes)] = numbers[-1]
        if p.makes in self.left:
            numbers.append(self._message(p.makes, owner, None, here, None))
        ends = self._spread(p.makes, end, owner, len(numbers) + len(self._near(p.makes, here)))
        for number, own in zip(numbers, ends, strict=False):
            unit = self._port("SNK", number, own.word, here, owner)
            self.out.streams.append(Stream(own, unit, 0, owner))
        self.free[(here, p.makes)] = ends[len(numbers) :]

    def _spread(self, tensor: str, end: End, owner: Own, count: int) -> list[End]:
        """As many streams of one, by a duplicator beside the unit that gives it."""
        if count < 2:
            return [end]
        n, c, h, w = self.model.view(tensor)
        f = {"pe": end.word.lanes, **typed("x", end.word.element), "pixels": n * h * w, "channels": c}
        ref = self.out.units[end.unit].ref
        unit = self._unit("DUP", f | {"outputs": count}, end.word.count, ref, owner)
        self.out.streams.append(Stream(end, unit, 0, owner))
        return [End(unit, k, end.word) for k in range(count)]

    def _message(self, tensor: str, source: Own | None, target: Own | None, here: int | None, there: int | None) -> int:
        size = self.model.elements(tensor) * ceil_div(self.model.element(tensor).bits, 8)
        way: tuple[str, ...] = ()
        if self.boundary is None:
            try:
                way = route(self.cluster, self._gate(here, there), self._gate(there, here))
            except ValueError as problem:
                raise Illegal(str(problem)) from None
        self.out.messages.append(Message(tensor, self.copy, source, target, here, there, size, way))
        return len(self.out.messages) - 1

    def _gate(self, device: int | None, other: int | None) -> DieRef | None:
        """The die that has the port to the other device, or to the host."""
        if device is None:
            return None
        board = self.cluster.devices[device].board
        die = board.pcie_die if other is None else board.network_die
        if die is None:
            raise Illegal(f"{self.cluster.devices[device].name} has no network port")
        return DieRef(device, die)

    def _port(self, op: str, number: int, word: Word, device: int, owner: Own) -> int:
        """SRC or SNK of a message, a bridge in its place at the boundary of a region."""
        m = self.out.messages[number]
        if self.boundary is not None:
            return self._bridge(m.tensor, op == "SNK", word, self.boundary, owner)
        n, c, h, w = self.model.view(m.tensor)
        e = self.model.element(m.tensor)
        f = {"pe": word.lanes, "bits": e.bits, "signed": int(e.signed), "pixels": n * h * w, "channels": c}
        ref = self._port_at(number, op, device)
        unit = self._unit(op, f | {"bytes": m.bytes, "channel": number}, word.count, ref, owner)
        self.out.ports[unit] = number
        return unit

    def _port_at(self, number: int, op: str, device: int) -> DieRef:
        """The die of a message's port, or of the bridges of a region."""
        if self.boundary is not None:
            return self.boundary.ref
        m = self.out.messages[number]
        ref = self._gate(device, m.source_device if op == "SRC" else m.target_device)
        assert ref is not None
        return ref

    def _bridge(self, tensor: str, out: bool, word: Word, b: Boundary, owner: Own) -> int:
        n, c, h, w = self.model.view(tensor)
        e, frames = self.model.element(tensor), b.frames[(tensor, out)]
        f = {"pe": word.lanes, "bits": e.bits, "signed": int(e.signed), "frames": frames, "images": n, "channels": c}
        f |= {"in_h": h, "in_w": w, "stage": b.stage + (b.lag if out else 0)}
        bits = frames * n * c * h * w * e.bits
        large = BRAM
        if bits >= BRIDGE_URAM_BITS and self.cluster.die(b.ref).raw.uram > 0:
            large = URAM
        f["memory"] = LUTRAM if bits <= BRIDGE_LUTRAM_BITS else large
        return self._unit("BRO" if out else "BRI", f, word.count, b.ref, owner)


def banks_of(
    cluster: Cluster, seats: Mapping[Own, Seat], engines: Mapping[Own, Engine]
) -> dict[Own, tuple[int, MemoryBank]]:
    """The bank of each reader of weights: of a device's the one with the most bytes a frame first, each to the bank
    that has room and is done with it first. Raises Illegal where none has room."""
    wanted: dict[int, list[tuple[int, int, Own]]] = {}  # device -> (bytes a frame, bytes, reader)
    for own, engine in engines.items():
        for f in (u.fields for u in engine.units if u.op == "MEM"):
            size = f["words"] * ceil_div(f["pe"] * f["x_bits"], 8)
            wanted.setdefault(seats[own].ref.device, []).append((size * f["turns"], size, own))
    out: dict[Own, tuple[int, MemoryBank]] = {}
    for device, readers in wanted.items():
        banks = cluster.devices[device].board.banks
        used, load = [0] * len(banks), [0] * len(banks)
        for asked, size, own in sorted(readers, key=lambda r: -r[0]):
            room = [k for k, b in enumerate(banks) if used[k] + size <= b.capacity_bytes]
            if not room:
                raise Illegal(f"no memory bank of {cluster.devices[device].name} has room for {size:,} bytes")
            done = {k: ceil_div((load[k] + asked) * PS_PER_SECOND, rate_of(banks[k])) for k in room}
            best = min(room, key=lambda k: (done[k], k))
            out[own] = best, banks[best]
            used[best] += ceil_div(size, PAGE_BYTES) * PAGE_BYTES
            load[best] += asked
    return out


def rate_of(bank: MemoryBank) -> int:
    """Bytes a second that long bursts reach."""
    return bank.bytes_per_second * bank.efficiency_percent // 100


__all__ = [
    "Boundary", "End", "Message", "Netlist", "Own", "Placed", "Seat", "Stream", "banks_of",
    "engine_of", "netlist", "rate_of",
]  # fmt: skip
