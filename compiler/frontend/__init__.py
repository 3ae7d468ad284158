"""ONNX -> IR: any accepted model becomes one canonical integer model, which a strict reader turns into a Graph.

`load_model` is the whole way; `canonical` stops at the integer ONNX model. Heavy imports happen inside the calls.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from compiler.frontend.options import ImportOptions, ImportReport

if TYPE_CHECKING:
    import onnx

    from compiler.frontend.onnxgraph import OnnxGraph
    from compiler.ir.graph import Graph

__all__ = ["ImportOptions", "ImportReport", "canonical", "load_model", "load_proto", "written_out"]


def load_model(path: Path, options: ImportOptions | None = None) -> Graph:
    """Read an ONNX file (QOperator, QDQ, float, or already canonical) into a legal Graph.

    In a notebook or a test, without a file:
        from compiler.frontend import ImportOptions, load_proto, zoo
        graph = load_proto(zoo.build("tiny"), ImportOptions(per_channel=True))
    What could not be done as asked stands in `graph.fallbacks`. Raises FvcError 101-122 on bad input.
    """
    from compiler.frontend.load import read_model

    return _load(lambda: read_model(Path(path)), options or ImportOptions(), Path(path).name)


def load_proto(model: onnx.ModelProto, options: ImportOptions | None = None, *, where: str = "model") -> Graph:
    """`load_model` of a ModelProto in memory."""
    return _load(lambda: model, options or ImportOptions(), where)


def _load(give: Callable[[], onnx.ModelProto], options: ImportOptions, where: str) -> Graph:
    """The import of the model that `give` makes; nothing here keeps it, so that its weights are held once only."""
    from compiler.frontend.load import clean
    from compiler.frontend.reader import read
    from compiler.frontend.refusal import blamed_on
    from compiler.ir.spec import check

    report = ImportReport()
    with blamed_on(give, where):
        graph = read(_integers(clean(give(), options, report, where), options, report, where), report, options.wide)
        check(graph)
    return graph


def canonical(
    model: onnx.ModelProto, options: ImportOptions, report: ImportReport, *, where: str = "model"
) -> OnnxGraph:
    """The canonical integer model as an OnnxGraph."""
    from compiler.frontend.load import clean

    return _integers(clean(model, options, report, where), options, report, where)


def written_out(path: Path, options: ImportOptions) -> onnx.ModelProto | None:
    """A low-bit model (QONNX, FINN) in standard float operators, which ONNX Runtime can run, one sample a frame.

    None for any other model. Raises as `load_model` does."""
    from dataclasses import replace

    from compiler.frontend.load import load_graph

    graph = load_graph(path, replace(options, batch=1), ImportReport())
    return None if graph.grids is None else graph.to_model()


def _integers(graph: OnnxGraph, options: ImportOptions, report: ImportReport, where: str) -> OnnxGraph:
    """The integer form of a clean graph, which is used up."""
    from compiler.frontend import lowbit, shapes, sizes
    from compiler.frontend.fold import copy_constant_outputs, fold_constants
    from compiler.frontend.fuse import fuse, one_dequantize_a_reader
    from compiler.frontend.load import name_nodes
    from compiler.frontend.normalise import normalise
    from compiler.frontend.products import regular_products
    from compiler.frontend.quantize import check_unused, is_float, quantize
    from compiler.frontend.refusal import runs, runs_once
    from compiler.frontend.simplify import fold_float_weights

    was_float = graph.grids is None and is_float(graph)
    if not was_float:
        check_unused(graph, options, report)
    if graph.grids is not None:
        runs_once(graph, where)  # written out in standard operators, which ONNX Runtime can judge
        lowbit.convert(graph, report, wide=options.wide)
        sizes.fits_memory(graph, where)
    else:
        if was_float:
            graph = quantize(graph, options, report)
        else:
            regular_products(graph)
            fold_float_weights(graph)
        fuse(graph, report)
    shapes.infer(graph)
    normalise(graph, report)
    fold_constants(graph)
    copy_constant_outputs(graph)
    one_dequantize_a_reader(graph)
    name_nodes(graph)
    shapes.measure(graph)
    if not was_float:  # a float model has run for its calibration
        runs(graph, where)
    return graph
