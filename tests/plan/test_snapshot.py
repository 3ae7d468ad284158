"""cluster.json: the cluster comes back as it was; anything else is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compiler.plan.snapshot import parse_cluster, write_cluster
from device_db import load_cluster
from device_db.errors import FvcError


@pytest.mark.parametrize("spec", ["u280", "u280x4", "u280+zcu102+pynq-z2"])
@pytest.mark.parametrize("topology", ["ring", "switch"])
def test_round_trip(spec: str, topology: str) -> None:
    cluster = load_cluster(spec, topology=topology, clock_khz=250_000)
    found = parse_cluster(write_cluster(cluster))
    bare = tuple(replace(d, board=replace(d.board, sources={})) for d in cluster.devices)
    assert found == replace(cluster, devices=bare)
    assert write_cluster(found) == write_cluster(cluster)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "fvc.cluster-snapshot/1"}', "[" * 100_000])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(FvcError) as caught:
        parse_cluster(text)
    assert caught.value.code == "FVC382"
