"""Quick upper bound: layers in topological order onto engines in machine order, boundary layers sliced unevenly.

Needs a Problem; guarantees an Allocation that covers every layer once, or None when the target cannot be met.
"""

from __future__ import annotations

from compiler.partition.options_table import Option
from compiler.partition.problem import Allocation, Problem, Share, load_of


def _piece(problem: Problem, layer: int, slot: int, split: str, units: int) -> Option | None:
    kind = problem.kind_of[slot]
    return problem.table.whole(layer, kind) if not split else problem.table.slice(layer, kind, split, units)


def _reduce_option(problem: Problem, layer: int, slot: int) -> Option | None:
    for o in problem.table.of(layer, problem.kind_of[slot]):
        if o.role == "reduce":
            return o
    return None


class _Sweep:
    """One pass at a target interval."""

    def __init__(self, problem: Problem, target: int) -> None:
        self.p, self.target = problem, target
        self.load = [0] * problem.slots
        self.at = 0  # position in problem.order

    def room(self, position: int) -> int:
        return self.target - self.load[self.p.order[position]]

    def split_from(self, layer: int, split: str, units: int) -> tuple[list[tuple[int, Share]], int] | None:
        """Slices of the layer from the current position on, greedily: ((position, share)…, total ticks)."""
        p = self.p
        out: list[tuple[int, Share]] = []
        left, first, position, total = units, 0, self.at, 0
        allowed = p.slots_of(layer)
        while left > 0 and position < len(p.order):
            slot = p.order[position]
            best: Option | None = None
            if slot in allowed:
                for k in range(min(left, units - 1), 0, -1):
                    o = _piece(p, layer, slot, split, k)
                    if o is not None and o.ticks <= self.room(position):
                        best = o
                        break
            if best is not None:
                k = best.share[0]
                out.append((position, Share(slot, split, first, k, best)))
                left, first, total = left - k, first + k, total + best.ticks
            position += 1
        if left > 0 or len(out) < 2:
            return None
        if split == "Pn":
            for position, share in reversed(out):
                o = _reduce_option(p, layer, share.slot)
                used = sum(s.option.ticks for q, s in out if q == position)
                if o is not None and used + o.ticks <= self.room(position):
                    out.append((position, Share(share.slot, "reduce", 0, units, o)))
                    return out, total + o.ticks
            return None
        return out, total

    def layer(self, layer: int) -> tuple[Share, ...] | None:
        p = self.p
        allowed = p.slots_of(layer)
        slot = p.order[self.at]
        whole = p.table.whole(layer, p.kind_of[slot]) if slot in allowed else None
        if whole is not None and whole.ticks <= self.room(self.at):
            self.load[slot] += whole.ticks
            return (Share(slot, "", 0, 1, whole),)
        best: tuple[list[tuple[int, Share]], int] | None = None
        for split in p.splits[layer]:
            got = self.split_from(layer, split.factor, split.units)
            if got is not None and (best is None or (len(got[0]), got[1]) < (len(best[0]), best[1])):
                best = got
        if best is not None:
            for position, share in best[0]:
                self.load[share.slot] += share.option.ticks
                self.at = max(self.at, position)
            return tuple(s for _, s in best[0])
        for position in range(self.at + 1, len(p.order)):
            slot = p.order[position]
            whole = p.table.whole(layer, p.kind_of[slot]) if slot in allowed else None
            if whole is not None and whole.ticks <= self.room(position):
                self.load[slot] += whole.ticks
                self.at = position
                return (Share(slot, "", 0, 1, whole),)
        return None


def preplace(problem: Problem, load: list[int]) -> Allocation | None:
    """Layers that are not free to go where a sweep is: forced slices, stuck groups, anchored ones; adds to `load`."""
    out: Allocation = {}
    for layer, grid in problem.forced.items():
        got = forced_slices(problem, layer, grid, load)
        if got is None:
            return None
        for s in got:
            load[s.slot] += s.option.ticks
        out[layer] = got
    groups = [g for g in problem.stuck if not any(layer in out for layer in g)]
    grouped = {layer for g in groups for layer in g}
    groups += [(layer,) for layer in sorted(problem.allowed) if layer not in out and layer not in grouped]
    for group in groups:
        best: tuple[int, int, list[Option]] | None = None
        for slot in problem.order:
            if any(slot not in problem.slots_of(layer) for layer in group):
                continue
            options = [o for layer in group if (o := problem.table.whole(layer, problem.kind_of[slot])) is not None]
            if len(options) == len(group):
                end = load[slot] + sum(o.ticks for o in options)
                if best is None or end < best[0]:
                    best = (end, slot, options)
        if best is None:
            return None
        end, slot, options = best
        load[slot] = end
        for layer, o in zip(group, options, strict=True):
            out[layer] = (Share(slot, "", 0, 1, o),)
    return out


def forced_slices(problem: Problem, layer: int, grid: str, load: list[int]) -> tuple[Share, ...] | None:
    """The cells of a grid on the least loaded engines that the layer may use, in machine order where all fit so."""
    cut = problem.table.layers[layer].grids[grid]
    slots = sorted(problem.slots_of(layer), key=lambda e: (load[e], problem.order.index(e)))
    even = on_slots(problem, layer, grid, sorted(slots[: cut.places], key=problem.order.index))
    if even is not None:
        return even
    able = [
        [e for e in slots if all(problem.table.cell(layer, problem.kind_of[e], grid, i) for i in mine)]
        for mine in ([i for i, c in enumerate(cut.cells) if c.place == place] for place in range(cut.places))
    ]
    chosen: dict[int, int] = {}
    for place in sorted(range(cut.places), key=lambda k: (len(able[k]), k)):
        free = [e for e in able[place] if e not in chosen.values()]
        if not free:
            return None
        chosen[place] = free[0]
    return on_slots(problem, layer, grid, [chosen[place] for place in range(cut.places)])


def on_slots(problem: Problem, layer: int, grid: str, slots: list[int]) -> tuple[Share, ...] | None:
    """The cells of a grid on these engines, or None where one of them does not fit."""
    cut = problem.table.layers[layer].grids[grid]
    if len(slots) != cut.places:
        return None
    out: list[Share] = []
    for i, c in enumerate(cut.cells):
        slot = slots[c.place]
        o = problem.table.cell(layer, problem.kind_of[slot], grid, i)
        if o is None:
            return None
        out.append(Share(slot, grid, i, 1, o))
    return tuple(out)


def pack(problem: Problem, target: int) -> Allocation | None:
    """A contiguous allocation whose engines are busy at most `target` ticks; None when the sweep finds none."""
    sweep = _Sweep(problem, target)
    fixed = preplace(problem, sweep.load)
    if fixed is None or max(sweep.load) > target:
        return None
    out: Allocation = {}
    for layer in problem.table.layers:
        got = fixed[layer.index] if layer.index in fixed else sweep.layer(layer.index)
        if got is None:
            return None
        out[layer.index] = got
    return out


def contiguous(problem: Problem, floor: int) -> Allocation | None:
    """The best contiguous allocation that bisection on the target finds from the bound `floor` upward."""
    worst = [
        min((o.ticks for k in set(problem.kind_of) if (o := problem.table.whole(x.index, k))), default=0)
        for x in problem.table.layers
    ]
    high = max(1, floor)
    best = pack(problem, high)
    fixed = [0] * problem.slots
    preplace(problem, fixed)  # partial sums through memory may take longer than the whole layers do
    top = max(high, sum(worst) * 4 + max(fixed))
    while best is None and high < top:
        high = min(top, high * 5 // 4 + 1)
        best = pack(problem, high)
    if best is None:
        return None
    low = max(1, floor) - 1
    high = min(high, max(load_of(problem, best).engine))
    for _ in range(40):
        if high - low <= max(1, high // 2000):
            break
        middle = (low + high) // 2
        got = pack(problem, middle)
        if got is None:
            low = middle
        else:
            best, high = got, min(middle, max(load_of(problem, got).engine))
    return best
