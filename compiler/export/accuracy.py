"""What quantization costs: the model as it came against the integer model, on data the user gives.

This is a measurement, never called verified: verification is the exact comparison of the binaries with the integer
model, this is the distance of the integer model from the one it was made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.frontend import ImportOptions, written_out
from compiler.ir.graph import Graph
from compiler.ir.samples import load_samples, read_npz
from device_db.errors import FvcError

Array = NDArray[Any]
LABELS = "labels"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Over `samples` samples: right answers before and after (None without labels), and how near the outputs are.

    agreement: samples whose top-1 is the same. sqnr_db: power of the original outputs over that of the difference, in
    hundredths of a decibel; None if there is no difference. cosine_ppm: mean cosine similarity in parts per million.
    """

    output: str
    samples: int
    agreement: int
    right_before: int | None
    right_after: int | None
    sqnr_centi_db: int | None
    cosine_ppm: int

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def sentence(self) -> str:
        """For the terminal and the report."""
        near = "equal outputs" if self.sqnr_centi_db is None else f"SQNR {self.sqnr_centi_db / 100:.1f} dB"
        told = f"top-1 agreement {_percent(self.agreement, self.samples)}, {near} on {self.samples} samples"
        if self.right_before is None or self.right_after is None:
            return told
        before, after = (_percent(n, self.samples) for n in (self.right_before, self.right_after))
        return f"accuracy {before} before, {after} after quantization; {told}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"


def evaluate(model: Path, graph: Graph, data: Path, importing: ImportOptions | None = None) -> Accuracy:
    """Runs both models on every sample of `data`; labels, if there, are the array "labels". importing: how the graph
    was made of the model; of its batch, the model takes one sample.

    The first graph output gives the answer: the index of its greatest element, or its value if it is one integer. A
    low-bit model runs in standard float operators, as `qonnx` defines its quantisers. Raises FVC002 and FVC007, and
    FVC005 for a model that ONNX Runtime cannot run.
    """
    from compiler.executor.host import session

    importing = importing or ImportOptions()
    batch = importing.batch
    before, after = _session(model, importing), session(graph.model)
    specs = {}
    for name in graph.inputs:
        if name in graph.host_tensors:
            dtype, shape = graph.host_tensors[name]
        else:
            tensor = graph.tensors[graph.root(name)]
            dtype, shape = tensor.dtype.numpy.name, tensor.shape
        specs[name] = dtype, (shape[0] // batch, *shape[1:]) if batch > 1 else shape
    samples = load_samples(data, specs, besides=(LABELS,))
    if len(samples) % batch:
        what = f"{len(samples)} samples do not make frames of {batch}"
        raise FvcError("FVC007", what, where=(str(data),), help=(f"give {len(samples) // batch * batch} of them",))
    labels = read_npz(data).get(LABELS)
    if labels is not None and (labels.shape != (len(samples),) or labels.dtype.kind not in "iu"):
        raise FvcError("FVC007", f"labels must be {len(samples)} integers", where=(str(data),))
    output = graph.outputs[0]
    answers, power, noise, cosine = [], 0.0, 0.0, 0.0
    for a, b in _results(before, after, output, samples, batch):
        answers.append((_answer(a), _answer(b)))
        x, y = (v.astype(np.float64).ravel() for v in (a, b))
        power, noise = power + float(x @ x), noise + float((x - y) @ (x - y))
        norm = float(np.linalg.norm(x) * np.linalg.norm(y))
        cosine += float(x @ y) / norm if norm else float((x == y).all())
    right: list[int | None] = [None, None]
    if labels is not None:
        right = [sum(int(pair[k] == label) for pair, label in zip(answers, labels, strict=True)) for k in (0, 1)]
    return Accuracy(
        output=output,
        samples=len(samples),
        agreement=sum(p == q for p, q in answers),
        right_before=right[0],
        right_after=right[1],
        sqnr_centi_db=round(1000 * np.log10(power / noise)) if noise and power else None,
        cosine_ppm=round(1e6 * cosine / len(samples)),
    )


def _results(
    before: Any, after: Any, output: str, samples: Sequence[dict[str, Array]], batch: int
) -> Iterator[tuple[Array, Array]]:
    """What both models make of each sample."""
    for at in range(0, len(samples), batch):
        own = samples[at : at + batch]
        frame = own[0] if batch == 1 else {name: np.concatenate([s[name] for s in own]) for name in own[0]}
        results = (
            np.split(np.asarray(after.run([output], frame)[0]), batch) if batch > 1 else after.run([output], frame)
        )
        for sample, result in zip(own, results, strict=True):
            yield np.asarray(before.run([output], sample)[0]), result


def _session(model: Path, importing: ImportOptions) -> Any:
    """A session on the file itself, so that weights in files beside it are found, or on a low-bit model written out."""
    import onnxruntime as ort

    from compiler.executor.host import session

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # ONNX Runtime's own classes share no base
        standard = written_out(model, importing)
        if standard is not None:
            return session(standard.SerializeToString())
        raise FvcError(
            "FVC005",
            f"--eval runs the model as it came too, and ONNX Runtime cannot: {str(problem)[:200]}",
            where=(str(model),),
            help=("leave out --eval: `fvc verify` compares the binaries with the integer model",),
        ) from None


def _answer(value: Array) -> int:
    if value.size == 1 and value.dtype.kind in "iu":
        return int(value.ravel()[0])
    return int(value.ravel().argmax())
