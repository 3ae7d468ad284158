"""What a caller may say about an import, and what the import has to tell: two small records."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How a model is read.

    shapes: graph input name -> static shape, for inputs with dynamic dimensions (`--shape NAME=1,3,224,224`).
    batch: samples that come as one frame: so many times the first dimension of each input (`--batch`).
    calibrate: NPZ file {graph input name: array with a leading samples axis}; only a float model needs it.
    activations: "u8" or "s8", the type of activations (and weights) when a float model is quantised.
    per_channel: a weight scale for every output channel instead of one for the tensor.
    wide: whether layers with activations or weights of 9 to 16 bits become integers too (low-bit models; only streaming
      engines have them), or run on the host.
    seed, samples: of the random calibration data used when no file is given.
    """

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    batch: int = 1
    calibrate: Path | None = None
    activations: str = "u8"
    per_channel: bool = False
    wide: bool = False
    seed: int = 0
    samples: int = 4


@dataclass(slots=True)
class ImportReport:
    """What happened on the way in: nothing is silent.

    fallbacks: sentences for the plan, the report and the terminal.
    reasons: ONNX node name -> why it could not become an integer node.
    """

    fallbacks: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def fallback(self, text: str) -> None:
        """Record one deviation, once."""
        if text not in self.fallbacks:
            self.fallbacks.append(text)
