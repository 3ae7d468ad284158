"""What the user may ask of the partitioner: plain values, checked once, printed into the plan."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any

from compiler.partition.pieces import FACTORS
from device_db.errors import FvcError

HOST_SEGMENT_NS = 50_000


@dataclass(frozen=True, slots=True)
class PartitionOptions:
    """Options of `partition`; every default is the documented one.

    style: "tiled", "streaming", or "auto", the best of both and of plans that have both.
    objective: "throughput" (interval, then latency, then crossings) or "latency" (latency, then resources).
    replicas: copies of the whole pipeline; 0 means auto (the number with the best throughput is taken).
    cores: engines a device, None: one a die. anchors: (layer name, "u280-0/SLR1").
    forbidden_cuts: pairs (producer layer, consumer layer) that must stand on the same engine, unsliced.
    force_split: (("Pm", 2),): every layer that allows it is sliced so; several factors: by all of them together.
    memory: "auto" | "external" (no resident weights) | "bram" | "uram" (the engines' weight memory is of that kind).
    target_fps and max_latency_ms are limits;
    min_devices asks for the fewest devices that meet them. time_limit_s is spent as deterministic solver time.
    interval: cycles of the reference clock a frame may take; a smaller interval is not looked for.
    folds: streaming folds that are given (--fold-from): (layer, PE, SIMD, memory or "", "hls" | "rtl" | "").
    measured: what layers take at a fold as synthesised (--measured): a fold as above, then LUT, FF, BRAM18, URAM, DSP.
    uniform: one engine for the whole cluster: the same Tm, Tn, lanes and scratchpads on every die.
    xfer: "auto" | "always" | "never": slices with equal weights, or inputs, load a share each and pass it on (latency).
    host_ns: measured nanoseconds of host segments by name (--host-profile).
    """

    objective: str = "throughput"
    style: str = "tiled"
    replicas: int = 1
    cores: int | None = None
    anchors: tuple[tuple[str, str], ...] = ()
    forbidden_cuts: tuple[tuple[str, str], ...] = ()
    force_split: tuple[tuple[str, int], ...] = ()
    folds: tuple[tuple[str, int, int, str, str], ...] = ()
    measured: tuple[tuple[str, int, int, str, str, int, int, int, int, int], ...] = ()
    memory: str = "auto"
    target_fps: float | None = None
    max_latency_ms: float | None = None
    min_devices: bool = False
    interval: int | None = None
    xfer: str = "auto"
    uniform: bool = False
    seed: int = 0
    workers: int = 1
    time_limit_s: float = 20.0
    host_ns: dict[str, int] = field(default_factory=dict)

    def validate(self) -> None:
        """Raises FVC201 (exit 2) for a value that has no meaning."""

        def bad(what: str, *help: str) -> None:
            raise FvcError("FVC201", what, help=help, exit_code=2)

        if self.objective not in ("throughput", "latency"):
            bad(f"unknown objective '{self.objective}'", "use throughput or latency")
        if self.style not in ("tiled", "auto", "streaming"):
            bad(f"unknown style '{self.style}'", "use tiled, streaming or auto")
        if self.folds and self.style == "tiled":
            bad("--fold-from folds streaming engines", "use --style streaming or auto")
        if self.measured and self.style == "tiled":
            bad("--measured measures layers of streaming engines", "use --style streaming or auto")
        if self.memory not in ("auto", "external", "bram", "uram"):
            bad(f"unknown memory style '{self.memory}'", "use auto, bram, uram or external")
        if self.xfer not in ("auto", "always", "never"):
            bad(f"--xfer {self.xfer} makes no sense", "use auto, always or never")
        if self.xfer == "always" and self.objective != "latency":
            bad("--xfer always needs --objective latency", "slices of a layer work on the same frame only there")
        if self.uniform and self.style == "streaming":
            bad("--uniform asks for one tiled engine", "use --style tiled")
        if self.replicas < 0:
            bad(f"{self.replicas} replicas make no sense", "use --replicas 1, 2, … or auto")
        if self.cores is not None and self.cores < 1:
            bad(f"{self.cores} cores a device make no sense", "use --cores 1 or more")
        if self.workers < 1:
            bad(f"{self.workers} workers make no sense", "use --workers 1 or more")
        if self.seed < 0:
            bad(f"seed {self.seed} is negative", "use --seed 0 or more")
        if not 0 < self.time_limit_s < inf:
            bad("the time limit must be positive and finite", "use --time-limit SECONDS")
        if self.target_fps is not None and not 0 < self.target_fps < inf:
            bad("the frame rate asked for must be positive and finite")
        if self.max_latency_ms is not None and not 0 < self.max_latency_ms < inf:
            bad("the latency asked for must be positive and finite")
        if self.interval is not None and self.interval <= 0:
            bad("the interval asked for must be positive")
        for factor, count in self.force_split:
            if factor not in FACTORS:
                bad(f"there is no split by '{factor}'", f"use {', '.join(FACTORS)}, as in --force-split Pr=2")
            if [f for f, _ in self.force_split].count(factor) > 1:
                bad(f"--force-split {factor} is given twice", "give every factor once")
            if count < 1:
                bad(f"--force-split {factor}={count} makes no sense", "use a number of slices of 1 or more")

    def as_json(self) -> dict[str, Any]:
        """What of this shapes the plan, as plain JSON values without absent ones; floats in milli-units."""
        out: dict[str, Any] = {}
        for key, value in asdict(self).items():
            unset = (key in ("folds", "measured") and not value) or (key == "xfer" and value == "auto")
            unset = unset or (key == "uniform" and not value)
            if value is None or key == "host_ns" or unset:
                continue
            if isinstance(value, float):
                out[f"{key}_milli"] = round(value * 1000)
            elif isinstance(value, tuple):
                out[key] = [list(v) for v in value]
            else:
                out[key] = value
        if self.host_ns:
            out["host_ns"] = dict(sorted(self.host_ns.items()))
        return out


def host_time_ns(name: str, options: PartitionOptions) -> int:
    """Nanoseconds of one host segment a frame: measured if given, else 50 us.

    The default is an assumption: one ONNX Runtime call with a small tail (softmax, top-k); `--host-profile` replaces
    it.
    """
    return options.host_ns.get(name, HOST_SEGMENT_NS)
