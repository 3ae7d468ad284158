"""What joins layers is priced as it is built, and a bound with it never passes what can be had."""

from __future__ import annotations

import random
from itertools import product

import pytest

from compiler.ir.graph import DType, Graph, Quant, Tensor
from compiler.isa.stream.network import cycle_ps
from compiler.isa.stream.resources import fifo_resources, unit_resources
from compiler.ops.stream.assemble import assemble
from compiler.ops.stream.joins import LEAST_DEPTH, converted, steps
from compiler.ops.stream.lower import Option, priced
from compiler.ops.stream.measure import busy_ps, die_use
from compiler.ops.stream.netlists import Seat
from compiler.ops.stream.parts import Fold, stream_inputs
from compiler.ops.stream.programs import programs_of
from compiler.partition.options import PartitionOptions
from compiler.partition.stream.joined import raised
from compiler.partition.stream.problem import Problem, make_problem
from device_db import load_cluster
from device_db.model import DieRef, Resources
from tests.bundles import digits
from tests.partition.graphs import conv

FAMILY = "ultrascale+"


@pytest.mark.parametrize("seed", range(4))
def test_options_and_converters_add_up_to_the_netlist(seed: int) -> None:
    """On one die with the shortest FIFOs nothing else is built but the ends of the host's streams."""
    rng = random.Random(seed)
    graph, cluster = digits(), load_cluster("u280")
    taken = {n.name: rng.choice(priced(graph, n, FAMILY, True, (), 1)) for n in graph.nodes}
    seats = {name: Seat(DieRef(0, 0), o.fold) for name, o in taken.items()}
    assembly = assemble(graph, cluster, seats)
    depths = {n.name: [LEAST_DEPTH] * len(assembly.wires_of(n.name)) for n in graph.nodes}
    (program,) = programs_of(graph, cluster, assembly, 10**9, depths, {})
    built = sum(die_use(program), Resources())
    units = program.fabric.units()
    ends = [k for k, ins in enumerate(units) if ins.op in ("SRC", "SNK")]
    expected = sum((o.resources for o in taken.values()), Resources())
    expected = sum((unit_resources(units[k], FAMILY) for k in ends), expected)
    made = {n.y: taken[n.name] for n in graph.nodes}
    for n in graph.nodes:
        for port, tensor in enumerate(stream_inputs(graph, n)):
            if tensor in made:
                expected += converted(made[tensor].gives, taken[n.name].reads[port], FAMILY)
    for con in program.fabric.streams():
        f = con.fields
        if units[f["source"]].op == "SRC":  # the host's stream belongs to no layer's result
            expected += fifo_resources(f["pe"] * f["bits"], LEAST_DEPTH, 0, FAMILY)
    assert built == expected


def test_words_change_by_way_of_what_divides_both() -> None:
    assert (steps(4, 4), steps(4, 8), steps(8, 2), steps(4, 6), steps(3, 7)) == ([], [8], [2], [2, 6], [1, 7])


def test_words_that_share_little_meet_in_a_multiple_where_the_divisor_is_too_slow() -> None:
    """25,344 elements in words of 4 and 11: one at a time they take a cycle each."""
    assert steps(4, 11, 25_344, 25_344) == [1, 11]
    assert steps(4, 11, 25_344, 25_343) == [44, 11]
    assert steps(4, 6, 30, 0) == [2, 6]  # 12 does not divide a frame of 30
    assert steps(8, 2, 64, 0) == [2]


def test_converters_hold_no_layer_up() -> None:
    """12 channels in words of 4, read in words of 6: three and two words a pixel; by way of 2 it would be six."""
    side, quant = 8, Quant(0.05, 128)
    shapes = {"x": 4, "t": 12, "y": 4}
    tensors = {k: Tensor(k, (1, c, side, side), DType.U8, quant) for k, c in shapes.items()}
    layers = (conv("a", "x", "t", 4, 12, side, 1), conv("b", "t", "y", 12, 4, side, 1))
    graph = Graph("pair", tensors, {}, layers, ("x",), ("y",))
    seats = {"a": Seat(DieRef(0, 0), Fold(4, 4)), "b": Seat(DieRef(0, 0), Fold(4, 6))}
    cluster = load_cluster("u280")
    programs = programs_of(graph, cluster, assemble(graph, cluster, seats), 10**9, {}, {})
    assert max(busy_ps(programs).values()) == 3 * side * side * cycle_ps(300_000)


def small(seed: int) -> Problem:
    """The first layers of a net with a few options each, on a die that holds some choices and not others."""
    rng = random.Random(seed)
    p = make_problem(digits(), load_cluster("pynq-z2"), PartitionOptions(style="streaming"), 1)
    p.every = [tuple(sorted(rng.sample(own, min(3, len(own))), key=lambda o: o.cycles)) for own in p.every]
    tight = rng.uniform(0.7, 1.1)
    least = sum((min(own, key=lambda o: o.resources.lut).resources for own in p.every), Resources())
    p.budgets = [(int(least.lut * (1 + tight)), 10**9, 10**6, 10**6, 10**6)]
    return p


def luts(p: Problem, chosen: tuple[Option, ...]) -> int:
    """What a choice takes, converters included."""
    made = {n.y: k for k, n in enumerate(p.nodes)}
    total = sum(o.resources.lut for o in chosen)
    for k, n in enumerate(p.nodes):
        for port, tensor in enumerate(stream_inputs(p.graph, n)):
            if tensor in made:
                total += converted(chosen[made[tensor]].gives, chosen[k].reads[port], FAMILY).lut
    return total


def test_converters_alone_can_refute() -> None:
    """With a LUT less than the smallest choice takes, every interval is refuted; with as many, none."""
    p = small(1)
    slowest = max(o.cycles for own in p.every for o in own)
    least = min(luts(p, chosen) for chosen in product(*p.every))
    assert least > sum(min(o.resources.lut for o in own) for own in p.every)
    for have, bound in ((least - 1, slowest + 1), (least, slowest)):
        p.budgets = [(have, 10**9, 10**6, 10**6, 10**6)]
        assert raised(p, p.cycle(), (slowest + 1) * p.cycle()) <= bound * p.cycle()
        if have < least:
            assert raised(p, p.cycle(), (slowest + 1) * p.cycle()) == bound * p.cycle()


@pytest.mark.parametrize("seed", range(6))
def test_no_choice_is_below_the_raised_bound(seed: int) -> None:
    p = small(seed)
    best = None
    for chosen in product(*p.every):
        lut = luts(p, chosen)
        interval = max(o.cycles for o in chosen)
        if lut <= p.budgets[0][0] and (best is None or interval < best):
            best = interval
    slowest = max(o.cycles for own in p.every for o in own)
    least = max(min(o.cycles for o in own) for own in p.every)
    top = (best or slowest + 1) * p.cycle()
    bound = raised(p, least * p.cycle(), top)
    assert bound <= top
    if best is not None:
        assert raised(p, least * p.cycle(), (slowest + 1) * p.cycle()) <= best * p.cycle()
