"""Whose fault a failed import is: the model's, if ONNX Runtime does not take it either, else a defect of fvc.

ONNX's own checker lets much pass that no runtime can run (a bias of the wrong length, scales of the wrong type, an
operator without a kernel). Checking all of it again here would be a second runtime; so ONNX Runtime is asked, once for
a model that is quantised already, and again where an import fails in a way that only a broken model explains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import onnx

from compiler.frontend import ort
from compiler.frontend.lowbit.quantizers import DOMAINS as LOWBIT_DOMAINS
from compiler.frontend.onnxgraph import IR_VERSION, MAX_IR_VERSION, OnnxGraph, numpy_dtype, type_of
from device_db.errors import FvcError


def runs(graph: OnnxGraph, where: str) -> None:
    """Raises FVC113 if ONNX Runtime cannot load the model: neither host segments nor a verification could run."""
    try:
        ort.session(ort.serialize(graph.to_model()))
    except Exception as refused:
        raise _refusal(refused, where) from None


def runs_once(graph: OnnxGraph, where: str) -> None:
    """Raises FVC113 unless ONNX Runtime loads the graph and runs it on zeros: shapes that disagree show only then."""
    refused = _refused(graph.to_model())
    if refused is not None:
        raise _refusal(refused, where) from None


@contextmanager
def blamed_on(give: Callable[[], onnx.ModelProto], where: str) -> Iterator[None]:
    """Turns what is no FvcError (and FVC901) into FVC113 if ONNX Runtime cannot load and run the model either.

    give: reads the model again, so that nobody has to keep it for this."""
    try:
        yield
    except Exception as problem:
        if isinstance(problem, MemoryError) or (isinstance(problem, FvcError) and problem.code != "FVC901"):
            raise
        refused = _refused(give())
        if refused is None:
            raise
        raise _refusal(refused, where) from problem


def _refused(model: onnx.ModelProto) -> Exception | None:
    """What ONNX Runtime says against the model: on loading it, or on one run with zeros where shapes are static.

    A low-bit model, whose operators it never has, was judged as it stands in standard operators (`runs`).
    """
    if any(n.domain.startswith(LOWBIT_DOMAINS) for n in model.graph.node):
        return None
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = min(max(copy.ir_version, IR_VERSION), MAX_IR_VERSION)
    weights = {t.name for t in copy.graph.initializer}
    try:
        session = ort.session(ort.serialize(copy))
        feeds = {}
        for info in copy.graph.input:
            t = type_of(info)
            if info.name in weights:
                continue
            if t is None or t.shape is None or any(d <= 0 for d in t.shape):
                return None
            feeds[info.name] = np.zeros(t.shape, numpy_dtype(t.elem))
        session.run(None, feeds)
    except Exception as refused:
        return refused
    return None


def _refusal(refused: Exception, where: str) -> FvcError:
    text = (str(refused).strip().splitlines() or [type(refused).__name__])[0]
    return FvcError(
        "FVC113",
        f"ONNX Runtime does not take the model: {text[:300]}",
        where=(where,),
        help=("run the model in ONNX Runtime by itself and mend it there",),
    )
