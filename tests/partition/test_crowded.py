"""Random models on machines whose semaphores hold few tokens: runs with stages, host segments, shares and copies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from compiler.isa.check import exact, runs
from compiler.partition.options import PartitionOptions
from compiler.schedule import core
from compiler.schedule.windows import message_tokens
from device_db import load_cluster
from device_db.errors import FvcError
from tests.partition.nets import nets
from tests.partition.test_random_models import CLUSTERS, PHASES, SPLITS
from tests.partition.whole_way import integer_models, run


def cases(most: int) -> Any:
    """(net and outputs, cluster, objective, forced factors, sharing, replicas, tokens of a semaphore)"""
    return st.tuples(
        nets(most), st.sampled_from(CLUSTERS), st.sampled_from(["latency", "throughput"]), st.sampled_from(SPLITS[1:]),
        st.sampled_from(["auto", "always"]), st.sampled_from([1, 1, 2]), st.integers(2, 4),
    )  # fmt: skip


def whole(case: Any) -> None:
    (net, outputs), (devices, topology), objective, split, xfer, replicas, most = case
    graph = integer_models(net.qdq_model(outputs, True, True, replicas == 1))[0]
    options = PartitionOptions(
        objective=objective, force_split=split, time_limit_s=0.1, replicas=replicas,
        xfer=xfer if objective == "latency" else "auto",
    )  # fmt: skip
    crowded: list[bool] = []

    def counting(*args: Any) -> Any:
        there, free = message_tokens(*args, most)
        crowded.append((there, free) != message_tokens(*args))
        return there, free

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "message_tokens", counting)
        patch.setattr(runs, "MOST_TOKENS", most)
        patch.setattr(exact, "MOST_TOKENS", most)
        try:
            run(graph, load_cluster(devices, topology=topology), options)
        except FvcError as refused:
            assert refused.code in ("FVC213", "FVC215", "FVC204"), refused.block()
            event(refused.code)
    event("crowded" if any(crowded) else "not crowded")


@settings(max_examples=12, deadline=None, derandomize=True, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(cases(6))
def test_any_model(case: Any) -> None:
    whole(case)


@pytest.mark.slow
@settings(max_examples=400, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(cases(9))
def test_many_models(case: Any) -> None:
    whole(case)
