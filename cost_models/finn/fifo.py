"""Stream FIFO: storage style by depth and width, then tiles and LUTs.

Facts of the peer's FIFO (finn-plus 1.6.1, whose LUT coefficients are fits to out-of-context Vivado runs on xczu7ev and
xcvc1902): a memory deeper than a power of two may be split into a low part of 2^lo and a high part of 2^hi words; one
word waits in the output register, and 16 more in the URAM style's output queue. W is the width padded to bytes.
"""

from __future__ import annotations

from functools import lru_cache

from cost_models.finn.types import Attributes, CaseError, Estimate, bits, is_versal
from cost_models.primitives import ceil_div

SRL_ALWAYS = 33  # words: a shift register whatever was asked for
SRL_NARROW = 64  # words: still a shift register below SRL_NARROW_BITS
SRL_NARROW_BITS = 12
LUTRAM_DEEPEST = 257
LUTRAM_NARROW_BITS = 5  # narrower words stay in LUTRAM at any depth
BRAM_DEEPEST = 2028
BRAM_SHAPES = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
BRAM_SHAPES_VERSAL = BRAM_SHAPES[:3]
URAM_SHAPES_VERSAL = ((9, 32768), (18, 16384), (36, 8192), (72, 4096))
HIGH_PART_URAM_RATIO = 7  # RAMB18 for each URAM288 from which the high part joins the low part's URAM
VERSAL_URAM_LUTS = 20
STYLES = ("auto", "srl", "distributed", "block", "ultra")


def log2_ceiling(x: int) -> int:
    """Address bits of x words; 0 for one."""
    return max(x - 1, 0).bit_length()


def built_style(depth: int, width: int, asked: str) -> str:
    """The style that is built for a request."""
    if depth <= SRL_ALWAYS:
        return "srl"
    if asked != "auto":
        return asked
    if depth <= SRL_NARROW and width < SRL_NARROW_BITS:
        return "srl"
    if depth <= LUTRAM_DEEPEST or width < LUTRAM_NARROW_BITS:
        return "distributed"
    return "block" if depth <= BRAM_DEEPEST else "ultra"


def split(depth: int, least_bits: int, queue: int) -> tuple[int, int]:
    """(lo, hi) address bits of the two parts; hi = 0 without a second part."""
    needed = max(depth - queue - 1, 1)
    lo = log2_ceiling(needed)
    if lo > least_bits:
        rest = log2_ceiling(needed - 2 ** (lo - 1))
        if rest < lo - 1:
            return lo - 1, max(rest, 1)
    return lo, 0


@lru_cache(maxsize=4096)
def bram_tiles(rows: int, width: int, versal: bool) -> tuple[int, int]:
    """(RAMB18, deepest cascade) of rows x width.

    UltraScale+ may cut the word into pieces of different shapes: the fewest tiles over all cuts. Versal may not.
    """
    if versal:
        options = [(ceil_div(rows, d) * ceil_div(width, w), ceil_div(rows, d)) for w, d in BRAM_SHAPES_VERSAL]
        return min(options)
    best: list[tuple[int, int]] = [(0, 0)]
    for bits_left in range(1, width + 1):
        pick: tuple[int, int] | None = None
        for w, d in BRAM_SHAPES:  # widest first: among equals the widest piece stays
            cascade = ceil_div(rows, d)
            tiles, deepest = best[max(bits_left - w, 0)]
            if pick is None or cascade + tiles < pick[0]:
                pick = (cascade + tiles, max(cascade, deepest))
        assert pick is not None
        best.append(pick)
    return best[width]


def uram_tiles(rows: int, width: int, versal: bool) -> tuple[int, int]:
    """(URAM288, deepest cascade); Versal takes the narrowest shape that holds the word whole."""
    w, d = (72, 4096)
    if versal:
        w, d = next((s for s in URAM_SHAPES_VERSAL if s[0] >= width), (72, 4096))
    cascade = ceil_div(rows, d)
    return cascade * ceil_div(width, w), cascade


def lutram_luts(rows: int, width: int) -> int:
    """32 rows x 2 bits a LUT, and a quarter more for decode and select."""
    return ceil_div(rows, 32) * ceil_div(width, 2) * 5 // 4


def fifo_cost(depth: int, width: int, asked: str, versal: bool) -> tuple[int, int, int]:
    """(LUT, BRAM18, URAM) of a FIFO of `depth` words of `width` bits."""
    if depth < 2:
        return (0, 0, 0)
    counter = log2_ceiling(depth + 1) + 1
    style = built_style(depth, width, asked)
    if style == "srl":
        return (_srl_luts(depth, width, counter, versal), 0, 0)
    if style == "distributed":
        rows = 2 ** log2_ceiling(depth - 1)
        return (lutram_luts(rows, width) + rows // 128 * (width // 2) + 8 * counter - 15, 0, 0)
    if style == "block":
        return _block(depth, width, versal)
    return _ultra(depth, width, counter, versal)


def _srl_luts(depth: int, width: int, counter: int, versal: bool) -> int:
    stages = ceil_div(depth - 1 if depth > 4 else 4, 32)
    select = 0
    if versal and stages >= 2:  # no wide F7/F8 multiplexers there: LUTs, four to one a level
        levels = ceil_div(stages - 1, 3)
        select = (width * levels if stages > 2 else ceil_div(width * levels, 2)) - 2
    return stages * width + select + 5 * counter - 7


def _high_in_ram(rows: int, width: int) -> bool:
    return rows * rows * width >= 2**20


def _join_luts(width: int) -> int:
    """Compare and multiplexer between the low and the high part."""
    return 18 + 3 * width // 7


def _block(depth: int, width: int, versal: bool) -> tuple[int, int, int]:
    lo, hi = split(depth, 9, 0)
    tiles, cascade = bram_tiles(2**lo, width, versal)
    lut = 0
    if hi:
        lut = _join_luts(width)
        if _high_in_ram(2**hi, width):
            more, deep = bram_tiles(2**hi, width, versal)
            tiles, cascade = tiles + more, max(cascade, deep)
        else:
            lut += lutram_luts(2**hi, width)
    return (54 + 3 * cascade + 2 * tiles // 5 + lut, tiles, 0)


def _ultra(depth: int, width: int, counter: int, versal: bool) -> tuple[int, int, int]:
    lo, hi = split(depth, 12, 16)
    tiles, cascade = uram_tiles(2**lo, width, versal)
    lut = 6 * counter + max(1, cascade // 4 - 2) * width + (VERSAL_URAM_LUTS if versal else 0)
    bram = 0
    if hi:
        lut += _join_luts(width)
        if not _high_in_ram(2**hi, width):
            lut += lutram_luts(2**hi, width) + width
        else:
            as_uram, as_bram = uram_tiles(2**hi, width, versal)[0], bram_tiles(2**hi, width, versal)[0]
            if hi >= 12 or as_bram >= HIGH_PART_URAM_RATIO * as_uram:
                tiles += as_uram
            else:
                bram = as_bram
    return (lut, bram, tiles)


def estimate(a: Attributes, part: str, model: str, words: int) -> Estimate:
    """Cost of StreamingFIFO_rtl; `words` pass through it in one inference (the peer gives 0 cycles)."""
    depth, shape, style = a.integer("depth"), a.integers("folded_shape"), a.text("ram_style", "auto")
    if not shape or depth < 0:
        raise CaseError("StreamingFIFO_rtl: folded_shape must not be empty and depth not negative")
    if style not in STYLES:
        raise CaseError(f"StreamingFIFO_rtl: unknown ram_style {style!r}")
    width = ceil_div(shape[-1] * bits(a.text("dataType")), 8) * 8
    if width > 1 << 16:
        raise CaseError(f"StreamingFIFO_rtl: a stream of {width} bits is wider than 65,536")
    lut, bram, uram = fifo_cost(depth, width, style, is_versal(part))
    if model == "finn":
        return Estimate(0, lut, None, bram, uram, 0)
    # fvc: one output word, and in the URAM style a queue of shift registers (in LUTs); two counters and flags.
    return Estimate(words, lut, width + 3 * (log2_ceiling(depth + 1) + 1) + 8, bram, uram, 0)
