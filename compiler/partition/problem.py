"""The placement problem as numbers: layers, engines, tensors that flow, links. What every solver and bound works on."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.partition.options_table import Option, OptionTable

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
    one slot together.
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
    forced: dict[int, tuple[str, int]]
    message_weight: list[float]

    @property
    def slots(self) -> int:
        return len(self.kind_of)

    def slots_of(self, layer: int) -> tuple[int, ...]:
        return self.allowed.get(layer, tuple(range(self.slots)))


@dataclass(frozen=True, slots=True)
class Share:
    """One piece of a layer in an allocation: `units` from unit `first` by `split` ("" whole), or a "reduce" piece."""

    slot: int
    split: str
    first: int
    units: int
    option: Option


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
    """Bits a frame from slot to slot (host included): every reader gets the whole tensor, an upper estimate."""
    bits: dict[tuple[int, int], int] = {}
    for f in problem.flows:
        if f.producer == HOST_SLOT:
            sources = [(HOST_SLOT, f.bits)]
        else:
            makers = [s for s in allocation[f.producer] if s.option.role != "partial"]
            total = sum(s.units for s in makers) or 1
            sources = [(s.slot, f.bits * s.units // total) for s in makers]
        targets = sorted({s.slot for c in f.consumers for s in allocation[c] if s.option.role != "reduce"})
        if f.to_host:
            targets.append(HOST_SLOT)
        for i, amount in sources:
            for j in targets:
                if i != j:
                    bits[(i, j)] = bits.get((i, j), 0) + amount
    for layer, shares in allocation.items():
        reduce = [s for s in shares if s.option.role == "reduce"]
        if reduce:
            words = problem.table.layers[layer].output_bits // 8 * 32
            for s in shares:
                if s.option.role == "partial" and s.slot != reduce[0].slot:
                    key = (s.slot, reduce[0].slot)
                    bits[key] = bits.get(key, 0) + words
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
