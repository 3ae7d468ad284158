"""The chained timelines that predictions use against the simulator, which plays tokens and knows no tiles."""

from __future__ import annotations

import pytest

from compiler.ir.graph import DType
from compiler.ops import task_timeline
from compiler.schedule import engine_spec
from compiler.simulator import simulate
from cost_models.pipeline import pipeline_interval
from tests.ops.graphs import Builder
from tests.schedule.running import programs_of
from tests.schedule.toy import BIG, SMALL, Toy


def network() -> Builder:
    b = Builder(9, DType.U8)
    x = b.input((1, 3, 64, 64))
    x = b.conv(x, 32, (3, 3), (2, 2), (1, 1, 1, 1))
    y = b.conv(x, 32, (3, 3), (1, 1), (1, 1, 1, 1), groups=32)
    x = b.binary(x, b.conv(y, 32), "add")
    x = b.table(x, False)
    x = b.pool(x, "max", (3, 3), (2, 2), (1, 1, 1, 1))
    x = b.conv(x, 128, (3, 3), (2, 2), (1, 1, 1, 1))
    x = b.conv(x, 256)
    b.conv(b.global_average(x), 100)
    return b


@pytest.mark.parametrize("spec", [BIG, SMALL])
@pytest.mark.parametrize("resident", [False, True])
def test_one_core_takes_the_predicted_interval(spec, resident: bool) -> None:
    g = network().graph()
    plan = Toy(g, spec, [("u280-0", "SLR0")], resident=resident).plan()
    nodes = {n.name: n for n in g.nodes}
    engine = engine_spec(plan.engines[0])
    timelines = [
        task_timeline(g, nodes[layer.name], s.role, s.box, (s.reduce_from, s.reduce_to), engine, s.tile, s.memory)
        for layer in plan.layers
        for s in layer.slices
    ]
    predicted = pipeline_interval(timelines) * 1_000_000_000 // engine.clock_khz
    simulated = simulate(programs_of(g, plan)).interval_ps
    assert abs(simulated - predicted) <= 0.05 * simulated
