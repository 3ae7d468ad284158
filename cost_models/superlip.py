"""Tiled designs of the literature: FPGA'15 (Zhang et al.) and Super-LIP (Jiang et al., TECS 2019).

`superlip` is the authors' model to the last digit (model="superlip": PARA.py of PITT-JZ-COOP/XFER_FPGA at adde4f9752);
model="fvc" mends its known faults. Sizes in words, times in cycles.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from cost_models.primitives import ceil_div


@dataclass(frozen=True, slots=True)
class ConvShape:
    """One convolution layer: batch B, output channels M, input channels N, output R x C, kernel K x K, stride S."""

    B: int
    M: int
    N: int
    R: int
    C: int
    K: int
    S: int = 1


@dataclass(frozen=True, slots=True)
class Design:
    """Tile <Tm, Tn, Tr, Tc>; ports Ip, Wp, Op and the link Ap in words a cycle; partition factors over FPGAs."""

    Tm: int
    Tn: int
    Tr: int
    Tc: int
    Ip: float
    Wp: float
    Op: float
    Ap: float = 1
    Pb: int = 1
    Pr: int = 1
    Pc: int = 1
    Pm: int = 1

    @property
    def sharers(self) -> int:
        """D: FPGAs that share the same weights."""
        return self.Pb * self.Pr * self.Pc


@dataclass(frozen=True, slots=True)
class TiledCost:
    """cycles = lat2 * trips (+ fill in the default model); bound is the term that sets lat2.

    Times are whole numbers in the default model; the released one divides by the ports without rounding."""

    cycles: float
    lat1: float
    lat2: float
    trips: int
    bound: str
    dsp: int
    bram18: int


def superlip(layer: ConvShape, d: Design, model: str = "fvc") -> TiledCost:
    """Latency of one layer over P = Pb*Pr*Pc*Pm FPGAs (Super-LIP, equations 8 to 17; XFER section 4).

    model="superlip": the released code. model="fvc": the link carries (P-1)/P of what is shared (ring), the input
    tile has stride, kernel and halo, memory ports are whole words and transfers whole cycles, tiles are clipped to the
    local partition, and fill and drain (tO + Lat1) are added.
    """
    if model == "superlip":
        return _released(layer, d)
    if model == "fvc":
        return _mended(layer, d)
    raise ValueError(f"unknown model {model!r}")


def _released(layer: ConvShape, d: Design) -> TiledCost:
    compute: float = layer.K * layer.K * d.Tr * d.Tc
    words_in, words_w, words_out = d.Tn * d.Tr * d.Tc, d.Tm * d.Tn * layer.K**2, d.Tm * d.Tr * d.Tc
    terms = {"tComp": compute, "tI": words_in / d.Ip / d.Pm, "tW": words_w / d.Wp / d.sharers}
    if d.Pm > 1:
        terms["tI_net"] = words_in / d.Ap / d.Pm
    if d.sharers > 1:
        terms["tW_net"] = words_w / d.Ap / d.sharers
    trips = (
        ceil_div(layer.B, d.Pb)
        * ceil_div(ceil_div(layer.R, d.Pr), d.Tr)
        * ceil_div(ceil_div(layer.C, d.Pc), d.Tc)
        * ceil_div(ceil_div(layer.M, d.Pm), d.Tm)
    )
    return _assemble(layer, d, terms, words_out / d.Op, trips, fill=False)


def _mended(layer: ConvShape, d: Design) -> TiledCost:
    rows, columns = ceil_div(layer.R, d.Pr), ceil_div(layer.C, d.Pc)
    m = ceil_div(layer.M, d.Pm)
    tr, tc, tm, tn = min(d.Tr, rows), min(d.Tc, columns), min(d.Tm, m), min(d.Tn, layer.N)
    ip, wp, op = (max(1, int(p)) for p in (d.Ip, d.Wp, d.Op))
    words_in = tn * ((tr - 1) * layer.S + layer.K) * ((tc - 1) * layer.S + layer.K)
    words_w, words_out = tm * tn * layer.K**2, tm * tr * tc
    terms: dict[str, float] = {"tComp": layer.K**2 * tr * tc, "tI": ceil_div(ceil_div(words_in, d.Pm), ip)}
    terms["tW"] = ceil_div(ceil_div(words_w, d.sharers), wp)
    link = Fraction(str(d.Ap))  # a link's rate in words a cycle is a ratio of clocks, so it may be fractional
    if d.Pm > 1:
        terms["tI_net"] = ceil(Fraction(words_in * (d.Pm - 1), d.Pm) / link)
    if d.sharers > 1:
        terms["tW_net"] = ceil(Fraction(words_w * (d.sharers - 1), d.sharers) / link)
    trips = ceil_div(layer.B, d.Pb) * ceil_div(rows, tr) * ceil_div(columns, tc) * ceil_div(m, tm)
    return _assemble(layer, d, terms, ceil_div(words_out, op), trips, fill=True)


def _assemble(layer: ConvShape, d: Design, terms: dict[str, float], out: float, trips: int, *, fill: bool) -> TiledCost:
    bound = max(terms, key=lambda k: terms[k])  # the first of equals: compute before memory before link
    lat1 = terms[bound]
    inner = ceil_div(layer.N, d.Tn) * lat1
    lat2 = max(inner, out)
    cycles = lat2 * trips + (out + lat1 if fill else 0)
    dsp, bram18 = float32_resources(layer.K, d)
    return TiledCost(cycles, lat1, lat2, trips, bound if inner >= out else "tO", dsp, bram18)


def float32_resources(k: int, d: Design) -> tuple[int, int]:
    """(DSP, BRAM18) of the float32 design: 5 DSP a MAC, double buffers in blocks of 18,000 bits (as the authors)."""
    pixels = ceil_div(d.Tr * d.Tc * 32, 18_000)
    weights = d.Tm * d.Tn * ceil_div(k * k * 32, 18_000)
    return 5 * d.Tm * d.Tn, 2 * (d.Tn * pixels + weights + d.Tm * pixels)


def fpga15_cycles(m: int, n: int, r: int, c: int, k: int, tm: int, tn: int, depth: int) -> int:
    """Zhang et al., FPGA 2015: ceil(M/Tm) * ceil(N/Tn) * (R*C*K*K + P); P (`depth`) is the pipeline term."""
    return ceil_div(m, tm) * ceil_div(n, tn) * (r * c * k * k + depth)


def fpga15_optimum(
    m: int, n: int, r: int, c: int, k: int, depth: int, pe_limit: int
) -> tuple[int, tuple[tuple[int, int], ...]]:
    """The least cycles of one layer over all <Tm, Tn> with Tm*Tn <= pe_limit, and the pairs that reach it.

    Only pairs where no smaller Tm or Tn gives the same number of trips are listed.
    """
    best = -1
    pairs: list[tuple[int, int]] = []
    for tm in range(1, min(m, pe_limit) + 1):
        for tn in range(1, min(n, pe_limit // tm) + 1):
            cycles = fpga15_cycles(m, n, r, c, k, tm, tn, depth)
            if best < 0 or cycles < best:
                best, pairs = cycles, []
            if cycles == best:
                pairs.append((tm, tn))
    least = [p for p in pairs if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in pairs)]
    return best, tuple(least)
