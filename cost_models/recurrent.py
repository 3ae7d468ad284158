"""Recurrent layers: a Brainwave-like engine, and one layer spread over several devices.

A step costs max(floor, matrix-vector + depth): below about h = 2000 the floor (the dependent chain of one step:
vector unit passes, gate functions, h written back) dominates, so a pure roofline is badly wrong.
Source: Fowers et al., "A Configurable Cloud-Scale DNN Processor for Real-Time AI", ISCA 2018, DeepBench table (the
values are recalled, see tests/data/PROVENANCE.md). MACs and clock are given; floor, launch and depth are fitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cost_models.primitives import ceil_div, ring_all_gather_ps, ring_reduce_scatter_ps

GATES = {"GRU": 3, "LSTM": 4}


@dataclass(frozen=True, slots=True)
class MatrixVectorEngine:
    """rows x columns multiply-accumulates a cycle at clock_khz."""

    lanes_rows: int
    lanes_columns: int
    clock_khz: int


# BW_S10: six tile engines of 400 rows x 40 lanes = 96,000 MACs at 250 MHz (ISCA 2018, table 3).
BW_S10 = MatrixVectorEngine(2_400, 40, 250_000)


@dataclass(frozen=True, slots=True)
class StepTerms:
    """Fitted latency terms, cycles: floor of a step by kind, launch once a sequence, depth of the matrix unit."""

    floor_cycles: Mapping[str, float]
    launch_cycles: float
    depth_cycles: float
    fitted_h: tuple[int, int]  # smallest and largest h of the fit; outside is extrapolation


def matrix_vector_cycles(rows: int, columns: int, engine: MatrixVectorEngine) -> int:
    """ceil(rows / lanes_r) * ceil(columns / lanes_c), without depth."""
    return ceil_div(rows, engine.lanes_rows) * ceil_div(columns, engine.lanes_columns)


def step_matrix_cycles(kind: str, h: int, engine: MatrixVectorEngine = BW_S10) -> int:
    """Both products of a step (W x and U h, input size = h): 2 G h rows of h columns."""
    return matrix_vector_cycles(2 * GATES[kind] * h, h, engine)


def sequence_cycles(kind: str, h: int, t: int, terms: StepTerms, engine: MatrixVectorEngine = BW_S10) -> float:
    """Cycles of a sequence of t steps at batch 1."""
    step = max(terms.floor_cycles[kind], step_matrix_cycles(kind, h, engine) + terms.depth_cycles)
    return terms.launch_cycles + t * step


def sequence_ms(kind: str, h: int, t: int, terms: StepTerms, engine: MatrixVectorEngine = BW_S10) -> float:
    """Milliseconds of a sequence."""
    return sequence_cycles(kind, h, t, terms, engine) / engine.clock_khz


def fit(rows: Sequence[Mapping[str, Any]], engine: MatrixVectorEngine = BW_S10) -> StepTerms:
    """Least squares over published rows {kind, h, t, ms}; rows with t < 25 are left out (launch noise).

    Rows whose matrix work alone is over 80 % of the step give the depth; the others, in cycles a step,
    floor[kind] + launch / t. A kind without rows takes the other's floor; ValueError without any row.
    """
    import numpy as np

    used = [r for r in rows if r["t"] >= 25]
    if not used:
        raise ValueError("no row with t >= 25 to fit")
    steps = [r["ms"] * engine.clock_khz / r["t"] for r in used]
    matrix = [step_matrix_cycles(r["kind"], r["h"], engine) for r in used]
    free = [k for k in range(len(used)) if matrix[k] <= 0.8 * steps[k]] or list(range(len(used)))
    kinds = sorted({used[k]["kind"] for k in free})
    # A launch can be told from a floor only where one kind has two lengths.
    lengths = {kind: {used[k]["t"] for k in free if used[k]["kind"] == kind} for kind in kinds}
    tell = any(len(v) > 1 for v in lengths.values())
    design = [[float(used[k]["kind"] == kind) for kind in kinds] + ([1.0 / used[k]["t"]] if tell else []) for k in free]
    weights = np.array([1.0 / steps[k] for k in free])
    target = np.array([steps[k] for k in free]) * weights
    solution = np.linalg.lstsq(np.array(design) * weights[:, None], target, rcond=None)[0]
    floors = {kind: float(solution[k]) for k, kind in enumerate(kinds)}
    launch = float(solution[-1]) if tell else 0.0
    for kind in GATES:
        floors.setdefault(kind, max(floors.values()))
    bound = [k for k in range(len(used)) if k not in free]
    depth = sum(steps[k] - launch / used[k]["t"] - matrix[k] for k in bound) / len(bound) if bound else 0.0
    sizes = [r["h"] for r in used]
    return StepTerms(floors, launch, max(0.0, depth), (min(sizes), max(sizes)))


# fit() of the open rows of the table; a test recomputes it.
BRAINWAVE = StepTerms({"GRU": 632.46, "LSTM": 702.0}, 950.0, 93.07, (256, 2816))


@dataclass(frozen=True, slots=True)
class Partitioned:
    """One step of a layer over p devices, picoseconds."""

    input_product_ps: int  # W x of the next step, which has no recurrence
    recurrent_product_ps: int  # U h
    collective_ps: int
    elementwise_ps: int

    @property
    def step_ps(self) -> int:
        """max(t_Wx + t_Uh, t_Uh + t_collective + t_elementwise): W x_(t+1) fills the wait for the collective."""
        chain = self.recurrent_product_ps + self.collective_ps + self.elementwise_ps
        return max(self.input_product_ps + self.recurrent_product_ps, chain)


def partitioned_step(
    kind: str,
    h: int,
    x: int,
    devices: int,
    split: str,
    engine: MatrixVectorEngine,
    link_bits_per_second: int,
    link_latency_ns: int,
    *,
    depth_cycles: int = 93,
    vector_lanes: int = 400,
    elementwise_passes: int = 10,
) -> Partitioned:
    """One step split by "rows" (every device some of all gates' rows, all-gather of h int8), "columns" (some of the
    inputs, reduce-scatter of the gates in int32, all-gather of h), or "gates" (whole gates, all-to-all of slices).

    elementwise_passes: passes of the vector unit over h/p elements for the gate step (assumption: sigmoid, tanh and
    products one after the other). Collectives are ring collectives.
    """
    gates, per = GATES[kind], ceil_div(h, devices)
    period = 1_000_000_000 / engine.clock_khz

    def product(rows: int, columns: int) -> int:
        return round((matrix_vector_cycles(rows, columns, engine) + depth_cycles) * period)

    if split == "rows":
        wx, uh = product(gates * per, x), product(gates * per, h)
        collective = ring_all_gather_ps(devices, h, link_bits_per_second, link_latency_ns)
    elif split == "columns":
        wx, uh = product(gates * h, ceil_div(x, devices)), product(gates * h, per)
        collective = ring_reduce_scatter_ps(devices, gates * h, link_bits_per_second, link_latency_ns)
        collective += ring_all_gather_ps(devices, h, link_bits_per_second, link_latency_ns)
    elif split == "gates":
        rows = ceil_div(gates, devices) * h
        wx, uh = product(rows, x), product(rows, h)
        # Each device needs its slice of every gate (int32 sums), then the new h of every device.
        collective = ring_all_gather_ps(
            devices, ceil_div(gates * h * 4, devices), link_bits_per_second, link_latency_ns
        )
        collective += ring_all_gather_ps(devices, h, link_bits_per_second, link_latency_ns)
    else:
        raise ValueError(f"unknown split {split!r}")
    elementwise = round(elementwise_passes * ceil_div(per, vector_lanes) * period)
    return Partitioned(wx, uh, collective, elementwise)
