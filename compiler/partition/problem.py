"""The placement problem as numbers: layers, engines, tensors that flow, links. What every solver and bound works on."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ops.boxes import box_elements, intersect
from compiler.partition.boxes import Boxes
from compiler.partition.options_table import Option, OptionTable, SplitRange

HOST_SLOT = -1


@dataclass(frozen=True, slots=True)
class Flow:
    """A tensor as traffic: made by a layer (or the host, HOST_SLOT), read by layers and perhaps the host."""

    tensor: str
    producer: int
    consumers: tuple[int, ...]
    to_host: bool
    bits: int


@dataclass(frozen=True, slots=True)
class SharedLink:
    """One direction of a link: bits it carries in `TICK_SCALE` ticks."""

    id: str
    bits_per_second: int


@dataclass(slots=True)
class Problem:
    """kind_of: engine kind of each slot. order: slots along the machine (neighbours close together).

    route[(i, j)]: indices into links for a message from slot i to slot j; HOST_SLOT is the host.
    bank_of: bank index of each slot; bank_rate: bytes a second of each bank. ref_khz: the reference clock.
    message_weight: share of a message's bank time that it costs each slot's engine. resident_bytes: weights each slot
    may hold on chip. allowed: slots that a layer may use (anchors); stuck: groups of layers that must stand whole on
    one slot together. splits: by layer, the cuts into units that a solver may use now (those tabulated, or some).
    """

    table: OptionTable
    kind_of: list[int]
    order: list[int]
    resident_bytes: list[int]
    flows: list[Flow]
    links: list[SharedLink]
    route: dict[tuple[int, int], tuple[int, ...]]
    bank_of: list[int]
    bank_rate: list[int]
    ref_khz: int
    allowed: dict[int, tuple[int, ...]]
    stuck: list[tuple[int, ...]]
    forced: dict[int, str]  # layer -> the grid that it must be cut by
    message_weight: list[float]
    boxes: Boxes
    splits: list[tuple[SplitRange, ...]]

    @property
    def slots(self) -> int:
        return len(self.kind_of)

    def slots_of(self, layer: int) -> tuple[int, ...]:
        return self.allowed.get(layer, tuple(range(self.slots)))

    def options(self) -> list[Option]:
        """The table's options without those of cuts that may not be used now."""
        out = {(x.index, r.factor) for x in self.table.layers for r in x.splits}
        out -= {(layer, r.factor) for layer, ranges in enumerate(self.splits) for r in ranges}
        return [o for o in self.table.options if (o.layer, o.split) not in out]


@dataclass(frozen=True, slots=True)
class Share:
    """A piece of a layer: `units` from unit `first` by `split` ("": whole), or cell `first` of a grid."""

    slot: int
    split: str
    first: int
    units: int
    option: Option

    @property
    def key(self) -> tuple[str, int, int, str]:
        """What it makes and reads depends on this and its layer only (boxes.Boxes)."""
        return (self.split, self.first, self.units, self.option.role)


Allocation = dict[int, tuple[Share, ...]]


@dataclass(frozen=True, slots=True)
class Load:
    """What an allocation takes a frame, in ticks of the reference clock."""

    engine: tuple[int, ...]
    link: tuple[int, ...]
    bank: tuple[int, ...]

    @property
    def interval(self) -> int:
        return max([1, *self.engine, *self.link, *self.bank])


def ticks_of_bits(bits: int, bits_per_second: int, ref_khz: int) -> int:
    """Reference-clock cycles, rounded up, in which so many bits pass a link."""
    return -(-bits * ref_khz * 1000 // bits_per_second)


def traffic(problem: Problem, allocation: Allocation) -> dict[tuple[int, int], int]:
    """Bits a frame from slot to slot (host included): of each piece what the readers on the other slot need of it."""
    bits: dict[tuple[int, int], int] = {}
    boxes = problem.boxes

    def send(i: int, j: int, amount: int) -> None:
        if amount:
            bits[(i, j)] = bits.get((i, j), 0) + amount

    for f in problem.flows:
        makers: list[tuple[int, tuple[int, tuple[str, int, int, str]] | None]] = [(HOST_SLOT, None)]
        if f.producer != HOST_SLOT:
            makers = [(s.slot, (f.producer, s.key)) for s in allocation[f.producer] if s.option.role != "partial"]
        readers: dict[int, list[tuple[int, tuple[str, int, int, str]]]] = {}
        for c in f.consumers:
            for s in allocation[c]:
                if s.option.role != "reduce":
                    readers.setdefault(s.slot, []).append((c, s.key))
        for i, maker in makers:
            for j, here in sorted(readers.items()):
                if i != j:
                    send(i, j, boxes.bits(f.tensor, maker, tuple(here)))
            if f.to_host:
                send(i, HOST_SLOT, boxes.bits(f.tensor, maker, ()))
    for layer, shares in allocation.items():
        for r in shares:
            if r.option.role == "reduce":
                for s in shares:
                    if s.option.role == "partial" and s.slot != r.slot:
                        common = intersect(boxes.made(layer, s.key), boxes.made(layer, r.key))
                        send(s.slot, r.slot, 32 * box_elements(common) if common else 0)
    return bits


def load_of(problem: Problem, allocation: Allocation) -> Load:
    """Ticks that every engine, link and bank is busy a frame."""
    engine = [0] * problem.slots
    link_bits = [0] * len(problem.links)
    bank_bytes = [0] * len(problem.bank_rate)
    for shares in allocation.values():
        for s in shares:
            engine[s.slot] += s.option.ticks
            bank_bytes[problem.bank_of[s.slot]] += s.option.read_bytes + s.option.write_bytes
    for (i, j), bits in traffic(problem, allocation).items():
        for link in problem.route[(i, j)]:
            link_bits[link] += bits
        for end in (i, j):
            if end != HOST_SLOT:
                bank_bytes[problem.bank_of[end]] += bits // 8
                lost = problem.message_weight[end]
                if lost:
                    rate = problem.bank_rate[problem.bank_of[end]] * 8
                    engine[end] += int(lost * ticks_of_bits(bits, rate, problem.ref_khz))
    links = tuple(
        ticks_of_bits(b, k.bits_per_second, problem.ref_khz) for b, k in zip(link_bits, problem.links, strict=True)
    )
    banks = tuple(
        ticks_of_bits(b * 8, r * 8, problem.ref_khz) for b, r in zip(bank_bytes, problem.bank_rate, strict=True)
    )
    return Load(tuple(engine), links, banks)
