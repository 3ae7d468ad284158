"""A constraint as data: family, place, unit, bound and what each option takes of it.

Needs plain numbers only. A solver turns a row into `sum(amount * literal) <= bound`; a bound sums the rows of merged
places; the infeasibility report reads family, demand and contributors from the same row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor, lcm
from typing import Any

Option = tuple[int, int]  # node, version
EXACT_SCALE_BITS = 44  # beyond, averages are rounded up: sums must stay below 2^63


@dataclass(frozen=True, slots=True)
class Row:
    """Sum of `terms` over the chosen (node, version) <= `bound`, in `unit`. `exact`: no term was rounded up."""

    family: str
    where: str
    unit: str
    bound: int
    terms: Mapping[Option, int]
    exact: bool = True

    def expression(self, literal: Callable[[int, int], Any]) -> Any:
        """The left side over a solver's literals, zero terms left out."""
        return sum(amount * literal(*key) for key, amount in self.terms.items() if amount)

    def least(self) -> dict[int, int]:
        """The least amount each node may take."""
        out: dict[int, int] = {}
        for (node, _), amount in self.terms.items():
            out[node] = min(out.get(node, amount), amount)
        return out


def usable(capacity: int, limit: Fraction) -> int:
    """floor(capacity * limit): of the decimal and of the double it is read as, whichever is less."""
    return min(floor(capacity * limit), floor(capacity * float(limit)))


def resources(
    versions: Sequence[Sequence[Sequence[int]]], budget: Sequence[int], names: Sequence[str], where: str
) -> list[Row]:
    """One row a resource type: what the versions take (node, version, type) against the budget of a place."""
    return [
        Row(
            "resources",
            where,
            name,
            budget[r],
            {(n, k): v[r] for n, vs in enumerate(versions) for k, v in enumerate(vs)},
        )
        for r, name in enumerate(names)
    ]


def average(
    versions: Sequence[Sequence[Sequence[int]]],
    capacity: Sequence[Fraction | int],
    listed: Sequence[int],
    limit: Fraction,
    names: Sequence[str],
    where: str,
) -> Row:
    """Mean utilisation: sum over the listed types with capacity of use/capacity <= limit * number listed, in integers.

    Every fraction is brought over the least common multiple of the capacities; where that would leave 64 bits, terms
    are rounded up at a fixed scale and the row says that it is not exact.
    """
    have = [r for r in listed if capacity[r] > 0]
    whole = [Fraction(capacity[r]) for r in have]
    scale = lcm(*(c.numerator for c in whole)) if whole else 1
    exact = scale.bit_length() <= EXACT_SCALE_BITS
    if not exact:
        scale = 1 << EXACT_SCALE_BITS - 4
    terms: dict[Option, int] = {}
    for n, vs in enumerate(versions):
        for k, v in enumerate(vs):
            amount = sum((Fraction(v[r] * scale) / c for r, c in zip(have, whole, strict=True)), Fraction(0))
            terms[(n, k)] = -floor(-amount)
    bound = floor(limit * len(listed) * scale)
    unit = f"/{scale} of " + "+".join(names[r] for r in listed)
    return Row("average utilisation", where, unit, bound, terms, exact)


def stream_wires(bits_per_frame: int, interval_cycles: int, least: int = 8) -> int:
    """SLL wires of a stream that moves a frame in `interval_cycles`: 2*ceil(bits/T), at least 8."""
    return max(least, 2 * -(-bits_per_frame // interval_cycles))


def link_bits(bits_per_cycle: int, interval_cycles: int) -> int:
    """Bits a link moves in one interval."""
    return bits_per_cycle * interval_cycles
