"""Boards, devices, links and clusters as frozen dataclasses; every number in integers with its unit in the name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resources:
    """LUT, FF, 18 Kb BRAM halves, URAM288, DSP slices."""

    lut: int = 0
    ff: int = 0
    bram18: int = 0
    uram: int = 0
    dsp: int = 0

    def __add__(self, o: Resources) -> Resources:
        return Resources(self.lut + o.lut, self.ff + o.ff, self.bram18 + o.bram18, self.uram + o.uram, self.dsp + o.dsp)

    def __sub__(self, o: Resources) -> Resources:
        return Resources(self.lut - o.lut, self.ff - o.ff, self.bram18 - o.bram18, self.uram - o.uram, self.dsp - o.dsp)


RESOURCE_TYPES = ("lut", "ff", "bram18", "uram", "dsp")  # the fields of Resources


@dataclass(frozen=True, slots=True)
class Die:
    """One SLR (or the whole of a monolithic device)."""

    name: str  # "SLR0"
    raw: Resources  # what the silicon has
    shell: Resources  # what the shell and infrastructure take
    usable_percent: Resources  # share of raw - shell that a design may use, per type, in percent
    clock_khz: int  # default kernel clock

    @property
    def usable(self) -> Resources:
        a, p = self.raw - self.shell, self.usable_percent
        return Resources(
            a.lut * p.lut // 100,
            a.ff * p.ff // 100,
            a.bram18 * p.bram18 // 100,
            a.uram * p.uram // 100,
            a.dsp * p.dsp // 100,
        )


@dataclass(frozen=True, slots=True)
class MemoryBank:
    """One DRAM channel or a group of HBM pseudo-channels, whose port stands on `die`."""

    name: str
    kind: str  # "DDR4" | "HBM2" | "LPDDR4" …
    die: int
    bytes_per_second: int  # peak
    efficiency_percent: int  # what long bursts reach of the peak
    capacity_bytes: int
    port_bits: int  # widest AXI port a core may use on it


@dataclass(frozen=True, slots=True)
class Board:
    name: str  # "u280"
    part: str
    family: str  # "ultrascale+", "versal", "stratix10", "arria10", "zynq7"
    dies: tuple[Die, ...]
    sll_wires: tuple[int, ...]  # wires per direction between die i and i+1, usable
    banks: tuple[MemoryBank, ...]
    network_die: int | None  # die that has the network port
    network_bits_per_second: int
    network_latency_ns: int
    pcie_die: int
    pcie_bytes_per_second: int
    pcie_latency_ns: int
    price_usd: int
    power_w: int
    macs_per_dsp: int  # int8 multiply-accumulates a DSP slice does per cycle
    sources: dict[str, str]  # field -> where its number comes from
    network_ports: int = 1  # cages; a device with more neighbours than cages shares their bits among its links
    network_cost: Resources = Resources()  # the network stack on network_die, charged once the device has a link
    title: str = ""  # "AMD Alveo U280"


@dataclass(frozen=True, slots=True)
class Device:
    """One board of a cluster, with its own name: u280-0."""

    name: str
    board: Board


SWITCH = -1  # `Link.b` of a link between a device and the network switch
LinkSpecRow = tuple[int, int]  # bits a second, latency in ns


@dataclass(frozen=True, slots=True)
class Link:
    """A full-duplex network link between two devices (indices into Cluster.devices); b may be SWITCH."""

    a: int
    b: int
    bits_per_second: int
    latency_ns: int


@dataclass(frozen=True, slots=True)
class DieRef:
    """One die of one device; prints as u280-0/SLR1."""

    device: int
    die: int


@dataclass(frozen=True, slots=True)
class Cluster:
    name: str  # the SPEC
    topology: str  # chain | ring | mesh | torus | switch
    devices: tuple[Device, ...]
    links: tuple[Link, ...]

    @property
    def dies(self) -> tuple[DieRef, ...]:
        return tuple(DieRef(d, k) for d, dev in enumerate(self.devices) for k in range(len(dev.board.dies)))

    def die(self, ref: DieRef) -> Die:
        return self.devices[ref.device].board.dies[ref.die]

    def die_name(self, ref: DieRef) -> str:
        return f"{self.devices[ref.device].name}/{self.die(ref).name}"
