"""`--batch N`: a model that takes one sample takes N of them at once, as one frame.

Needs a graph with static inputs. Does: N times the first dimension of every input, and of the constant shapes to which
something is reshaped. Guarantees that row k of each result is what the model as it was computes of row k, held against
ONNX Runtime on random samples; a model for which that is not so is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from compiler.frontend import ort
from compiler.frontend.onnxgraph import OnnxGraph, Type, numpy_dtype
from compiler.frontend.options import ImportReport
from device_db.errors import FvcError

Array = NDArray[Any]
NEAR = 0.05  # of the distance between results of different samples: kernels may round otherwise for several at once


def widen(graph: OnnxGraph, batch: int, where: str) -> dict[str, Type]:
    """Gives the inputs `batch` times their first dimension; their types before. Raises FVC104."""
    before = {name: graph.types[name] for name in graph.inputs}
    for name, t in before.items():
        if not t.shape:
            raise _refused(batch, f"input '{name}' is a scalar", where)
        graph.types[name] = Type(t.elem, (t.shape[0] * batch, *t.shape[1:]))
    firsts = {t.dims[0] for t in before.values()}
    for node in graph.nodes:
        target = graph.constants.get(node.inputs[1]) if node.op == "Reshape" and not node.domain else None
        if target is None or node.inputs[0] in graph.constants or target.ndim != 1 or not target.size:
            continue
        if int(target[0]) in firsts:
            name = f"{node.outputs[0]}/shape of {batch}"
            graph.constants[name] = np.concatenate([target[:1] * batch, target[1:]])
            node.inputs[1] = name
    return before


def hold(
    graph: OnnxGraph, model: onnx.ModelProto, before: dict[str, Type], batch: int, where: str, report: ImportReport
) -> None:
    """Compares the graph on `batch` samples with the model on each alone. Raises FVC104."""
    wide = _runner(graph.to_model().SerializeToString(), {k: graph.types[k] for k in graph.inputs}, graph.outputs)
    single = _runner(model.SerializeToString(), before, graph.outputs)
    told = f"--batch {batch}: a frame is {batch} samples; rates, intervals and latencies are those of such frames"
    if single is None:
        report.fallback(f"{told}; not compared with single samples, ONNX Runtime has not all operators of the model")
        return
    rng = np.random.default_rng(5)
    samples = [{name: _random(rng, t) for name, t in before.items()} for _ in range(batch)]
    alone = [own for sample in samples if (own := single(sample)) is not None]
    if len(alone) < batch:
        report.fallback(f"{told}; not compared with single samples, ONNX Runtime does not run the model on random data")
        return
    together = None if wide is None else wide({k: np.concatenate([s[k] for s in samples]) for k in before})
    if together is None:
        raise _refused(batch, "ONNX Runtime does not run it on several samples: constants in it hold a batch", where)
    for k, name in enumerate(graph.outputs):
        if not _same(together[k], [own[k] for own in alone]):
            raise _refused(batch, f"its result '{name}' on several samples is not that of each alone", where)
    report.fallback(told)


def _refused(batch: int, why: str, where: str) -> FvcError:
    return FvcError(
        "FVC104",
        f"the model cannot take --batch {batch}: {why}",
        where=(where,),
        help=("leave --batch out: frames follow one another", "export the model with that batch"),
    )


def _same(got: Array, own: list[Array]) -> bool:
    """Whether the results of samples together are theirs alone, far nearer than those of different samples are."""
    if got.ndim == 0 or any(a.ndim == 0 for a in own):
        return False
    expected = np.concatenate(own)
    if got.shape != expected.shape:
        return False
    a, b = got.astype(np.float64), expected.astype(np.float64)
    apart = np.abs(b - np.concatenate([*own[1:], own[0]]).astype(np.float64)).mean() if b.size else 0.0
    return bool(np.abs(a - b).mean() <= NEAR * apart + 1e-6 * np.abs(b).mean()) if b.size else True


def _random(rng: np.random.Generator, t: Type) -> Array:
    dtype = np.dtype(numpy_dtype(t.elem))
    if dtype.kind == "f":
        return rng.uniform(-1, 1, t.dims).astype(dtype)
    return rng.integers(0, 2 if dtype.kind == "b" or dtype.itemsize > 1 else 100, t.dims).astype(dtype)


def _runner(
    model: bytes, types: dict[str, Type], outputs: list[str]
) -> Callable[[dict[str, Array]], list[Array] | None] | None:
    """Runs a model on inputs of its own types; None where ONNX Runtime does not take it."""
    try:
        session = ort.session(model)
    except Exception:
        return None
    kinds = {i.name: numpy_dtype(types[i.name].elem) for i in session.get_inputs()}

    def run(feeds: dict[str, Array]) -> list[Array] | None:
        try:
            return list(session.run(list(outputs), {k: feeds[k].astype(kind) for k, kind in kinds.items()}))
        except Exception:
            return None

    return run
