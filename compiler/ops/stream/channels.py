"""Some channels of a stream for a part of a layer: CROP, and words as wide as what follows takes."""

from __future__ import annotations

from math import gcd

from compiler.ops.stream.parts import Element, End, Engine, divisors, narrow, x_fields
from compiler.ops.stream.sliced import Part


def crop_lanes(node: Part, lanes: int, cycles: int) -> int:
    """Lanes of the CROP before a part: as few as pass the whole image in three quarters of `cycles`, of those that
    divide what stays and what goes and convert to `lanes`."""
    n, _, h, w = node.x_shape
    whole = n * h * w * node.of
    legal = [d for d in divisors(gcd(node.first, node.x_shape[1], node.of)) if d % lanes == 0 or lanes % d == 0]
    return next((d for d in legal if 4 * (whole // d) <= 3 * cycles), legal[-1])


def take(engine: Engine, at: End | None, node: Part, x: Element, through: int, lanes: int) -> End:
    """A part's own channels of x, read `through` at once and given `lanes` a word."""
    n, kept, h, w = node.x_shape
    f = {"pe": through, **x_fields(x), "channels": node.of, "in_h": h, "in_w": w, "oh": h, "ow": w}
    f |= {"sh": 1, "sw": 1, "first": node.first, "kept": kept, "more": n - 1}
    at = engine.after(engine.unit("CROP", f), at)
    return narrow(engine, at, through, lanes, n * h * w * kept, x)
