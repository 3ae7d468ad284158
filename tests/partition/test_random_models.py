"""Random models the whole way onto odd clusters, every kind of cut forced: legal, exact, and never standing still."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from compiler.partition.options import PartitionOptions
from device_db import load_cluster
from device_db.errors import FvcError
from tests.partition.nets import nets
from tests.partition.whole_way import integer_models, run

SPLITS: tuple[tuple[tuple[str, int], ...], ...] = (
    (), (("Pr", 2),), (("Pm", 3),), (("Pb", 2),), (("Pr", 3),), (("Pc", 2),), (("Pm", 2),), (("Pn", 2),), (),
    (("Pr", 2), ("Pc", 2)), (("Pr", 2), ("Pm", 2)), (("Pm", 2), ("Pn", 2)), (("Pr", 3), ("Pn", 2)),
    (("Pc", 3), ("Pm", 2)),
)  # fmt: skip
CLUSTERS = (
    ("zcu102x2", None), ("u280x4", None), ("zcu102x4", "ring"), ("zcu102x3", "switch"), ("zcu102x5", "mesh"),
    ("u280+zcu102x2", "chain"), ("kv260x3", None), ("u250+u50", None),
)  # fmt: skip
PHASES = (Phase.explicit, Phase.generate)  # shrinking such a case takes minutes


def cases(most: int) -> Any:
    """(net and outputs, (QOperator, signed, per channel, integers in and out), cluster, objective, forced factors)"""
    where, objective = st.sampled_from(CLUSTERS), st.sampled_from(["latency", "throughput"])
    return st.tuples(nets(most), st.tuples(*[st.booleans()] * 4), where, objective, st.sampled_from(SPLITS))


def whole(case: Any) -> None:
    (net, outputs), (qoperator, *how), (devices, topology), objective, split = case
    graph = integer_models(net.qdq_model(outputs, *how))[qoperator]
    xfer = "always" if objective == "latency" and how[1] else "auto"
    options = PartitionOptions(objective=objective, force_split=split, time_limit_s=0.1, xfer=xfer)
    try:
        told = run(graph, load_cluster(devices, topology=topology), options)
    except FvcError as refused:
        # Nothing to cut so, or nothing for an engine to do; all else is a defect.
        assert refused.code in ("FVC213", "FVC215"), refused.block()
        event(refused.code)
        return
    event("cut" if any(x.strategy != "whole" for x in told.plan.layers) else "whole")


@settings(max_examples=24, deadline=None, derandomize=True, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(cases(5))
def test_any_model(case: Any) -> None:
    whole(case)


@pytest.mark.slow
@settings(max_examples=600, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(cases(10))
def test_many_models(case: Any) -> None:
    whole(case)
