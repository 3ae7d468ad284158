"""How the peer turns a memory of a width and a depth into RAMB18, URAM288 and LUTRAM."""

from __future__ import annotations

from cost_models.primitives import ceil_div

# AMD UG573 table 1-10: simple dual-port shapes of an 18 kb half, (width, depth), and URAM288 aspects of Versal (AM007).
LADDER = ((1, 16384), (2, 8192), (4, 4096), (9, 2048), (18, 1024), (36, 512))
# The peer divides VVAU memories by the power of two below (parity bits unused).
LANES_PARITY = (9, 18, 36)
LANES_PLAIN = (8, 16, 32)
PRIMITIVES = (
    ("uram", 72, 4096),
    ("uram", 36, 8192),
    ("uram", 18, 16384),
    ("uram", 9, 32768),
    ("bram18", 36, 512),
    ("bram18", 18, 1024),
    ("bram18", 9, 2048),
    ("lut", 1, 64),
)


def ladder_bram18(width: int, depth: int, lanes: tuple[int, int, int] = LANES_PARITY) -> int:
    """RAMB18 by the width ladder: one shape for the whole word, chosen from width and depth."""
    byte, half, full = lanes
    if width <= 2:
        return ceil_div(depth, 16384 if width == 1 else 8192)
    if width <= 4:
        return ceil_div(depth, 4096)
    if width <= 9:
        return ceil_div(depth, 2048) * ceil_div(width, byte)
    if width <= 18 or depth > 512:
        return ceil_div(depth, 1024) * ceil_div(width, half)
    return ceil_div(depth, 512) * ceil_div(width, full)


def uram288(width: int, depth: int) -> int:
    """URAM288 blocks of 72 bits x 4096 words."""
    return ceil_div(width, 72) * ceil_div(depth, 4096)


def least_waste(width: int, depth: int, kinds: tuple[str, ...]) -> tuple[str, int]:
    """(kind, count) of the primitive that wastes the fewest bits; the first of equals in PRIMITIVES' order."""
    best: tuple[int, str, int] | None = None
    for kind, w, d in PRIMITIVES:
        if kind in kinds:
            count = ceil_div(width, w) * ceil_div(depth, d)
            if best is None or count * w * d < best[0]:
                best = (count * w * d, kind, count)
    assert best is not None
    return best[1], best[2]
