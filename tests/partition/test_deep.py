"""Nets of more layers than a semaphore counts frames ahead of each, or messages at all."""

from __future__ import annotations

import copy
import random
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.isa.check import check_programs
from compiler.isa.program import DeviceProgram
from compiler.isa.table import Queue
from compiler.judge import programs_of
from compiler.partition.options import PartitionOptions
from compiler.pipeline import CompileOptions, CompileResult, compile_model

LAYERS = 140  # two frames ahead are 280 tokens between the queues of one core
MANY = 260  # one frame ahead is more than 255
BETWEEN = ((Queue.ST, Queue.TX), (Queue.TX, Queue.ST), (Queue.RX, Queue.LD), (Queue.LD, Queue.RX))


def deep(path: Path, layers: int, skips: float = 0.0, seed: int = 0) -> Path:
    """A chain of 3x3 convolutions on 4 channels of 6x6, each bounded so that nothing grows; a share of them with an
    addition of an earlier layer, mostly a near one."""
    rng, toss = np.random.default_rng(seed), random.Random(seed)
    constants = [numpy_helper.from_array(np.float32(v), k) for k, v in (("lo", -1), ("hi", 1))]
    nodes, past = [], ["x"]
    for k in range(layers):
        w = rng.standard_normal((4, 4, 3, 3)).astype(np.float32) / 6
        w[np.arange(4), np.arange(4), 1, 1] += 0.7
        constants.append(numpy_helper.from_array(w, f"w{k}"))
        nodes.append(helper.make_node("Conv", [past[-1], f"w{k}"], [f"c{k}"], pads=[1] * 4))
        made = f"c{k}"
        if toss.random() < skips:
            other = toss.choice(past[-20:] if toss.random() < 0.7 else past)
            nodes.append(helper.make_node("Add", [made, other], [f"a{k}"]))
            made = f"a{k}"
        nodes.append(helper.make_node("Clip", [made, "lo", "hi"], [f"r{k}"]))
        past.append(f"r{k}")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 4, 6, 6)) for n in ("x", past[-1])]
    graph = helper.make_graph(nodes, "deep", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def compiled(model: Path, devices: str, objective: str, factor: str, ways: int, frames: int = 3) -> CompileResult:
    options = PartitionOptions(objective=objective, force_split=((factor, ways),), time_limit_s=0.2)
    result = compile_model(model, CompileOptions(devices=devices, partition=options, frames=frames))
    assert result.verification is not None
    assert (result.verification.passed, result.verification.mismatches) == (True, 0)
    return result


@pytest.mark.parametrize("factor", ["Pr", "Pn"])
def test_every_layer_of_a_deep_net_is_cut(factor: str, tmp_path: Path) -> None:
    result = compiled(deep(tmp_path / "deep.onnx", LAYERS), "zcu102x2", "latency", factor, 2, frames=5)
    assert sum(x.strategy == f"{factor}=2" for x in result.plan.layers) == LAYERS


@cache
def many() -> list[DeviceProgram]:
    with tempfile.TemporaryDirectory() as folder:
        result = compiled(deep(Path(folder) / "deep.onnx", MANY), "zcu102x2", "latency", "Pr", 2)
    return programs_of(result.binaries)


def test_tokens_go_in_runs() -> None:
    for program in many():
        (core,) = program.cores
        assert [core.marking[a][b] for a, b in BETWEEN] == [0, 255, 0, 255]


@pytest.mark.parametrize(("pair", "kind"), list(zip(BETWEEN, ["marking", "pair", "pair", "move"], strict=True)))
def test_a_changed_token_of_a_run_is_found(pair: tuple[Queue, Queue], kind: str) -> None:
    (a, b), toss = pair, random.Random(0)
    programs = copy.deepcopy(many())
    core = toss.choice(programs).cores[0]
    k = toss.randrange(1, MANY - 1)
    posts = [i for i in core.queues[a] if i.post >> b & 1]
    waits = [i for i in core.queues[b] if i.wait >> a & 1]
    if kind == "marking":
        rows = [list(r) for r in core.marking]
        rows[a][b] += 1
        core.marking = tuple(tuple(r) for r in rows)
    elif kind == "pair":
        posts[k].post ^= 1 << b
        waits[k].wait ^= 1 << a
    else:  # the next instruction that posts none
        later = core.queues[a][core.queues[a].index(posts[k]) + 1 :]
        posts[k].post ^= 1 << b
        next(i for i in later if not i.post >> b & 1).post ^= 1 << b
    assert {f.code for f in check_programs(programs)} & {"FVC324", "FVC325", "FVC326"}


@pytest.mark.slow
@pytest.mark.parametrize("devices", ["zcu102x2", "zcu102x4"])
@pytest.mark.parametrize("factor", ["Pr", "Pm", "Pn"])
def test_very_deep_nets(devices: str, factor: str, tmp_path: Path) -> None:
    ways = int(devices[-1])
    result = compiled(deep(tmp_path / "deep.onnx", 300, 0.3, seed=ways), devices, "latency", factor, ways)
    assert sum(x.strategy == f"{factor}={ways}" for x in result.plan.layers) >= 300


@pytest.mark.slow
@pytest.mark.parametrize("devices", ["zcu102x2", "zcu102x4"])
def test_a_stage_a_layer(devices: str, tmp_path: Path) -> None:
    """All of a tensor is needed by the next layer's slices: in a pipeline each is a stage."""
    ways = int(devices[-1])
    result = compiled(deep(tmp_path / "deep.onnx", LAYERS, 0.1, seed=ways), devices, "throughput", "Pm", ways)
    assert max(s.stage for x in result.plan.layers for s in x.slices) >= LAYERS - 1
