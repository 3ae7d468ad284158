"""Solver settings and the deterministic clock that all solves of one case share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Settings:
    """limit: deterministic solver seconds a case (never wall-clock); workers > 1 may differ from run to run."""

    limit: float = 60.0
    seed: int = 0
    workers: int = 1


class Clock:
    """Hands out deterministic time and solves CP-SAT models with it; what a solve used is taken from the rest."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.left = settings.limit

    @property
    def spent(self) -> float:
        return self.settings.limit - self.left

    def charge(self, seconds: float) -> None:
        """Work outside a solver, at a fixed price a piece, so that it ends deterministically too."""
        self.left -= seconds

    def solve(self, model: Any, seconds: float, **parameters: Any) -> tuple[str, Any]:
        """(status, solver); UNKNOWN at once when the time is used up. RuntimeError: CP-SAT refuses the model."""
        from ortools.sat.python import cp_model

        solver = cp_model.CpSolver()
        q = solver.parameters
        q.random_seed = self.settings.seed
        q.num_workers = self.settings.workers
        q.catch_sigint_signal = False
        q.max_deterministic_time = min(seconds, self.left)
        for name, value in parameters.items():
            setattr(q, name, value)
        if self.left <= 0:
            return "UNKNOWN", None
        status = str(solver.status_name(solver.solve(model)))
        self.left -= float(solver.response_proto.deterministic_time) + 1e-4
        if status == "MODEL_INVALID":
            raise RuntimeError(f"CP-SAT refuses a model: {model.validate()}")
        return status, solver
