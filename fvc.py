"""`import fvc` for notebooks and `python -m fvc` for shells: a thin face of the compiler.

import fvc
result = fvc.partition("model.onnx", devices="u280x4", output="out/model")
print(result.plan.predicted["fps"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compiler.pipeline import CompileResult

__all__ = ["diff", "load_plan", "partition"]


def partition(model: str, *, devices: str, output: str | None = None, **options: Any) -> CompileResult:
    """Compiles `model` for `devices`; `options` are the fields of compiler.pipeline.CompileOptions.

    Writes a bundle if `output` is given. Raises device_db.errors.FvcError for whatever a user can cause.
    """
    from pathlib import Path

    from compiler.pipeline import CompileOptions, compile_model

    chosen = CompileOptions(devices=devices, **options)
    return compile_model(Path(model), chosen, output=Path(output) if output else None)


def load_plan(path: str) -> Any:
    """The Plan of a bundle folder or of a plan.json file."""
    from pathlib import Path

    from compiler.plan.io import find_plan, read_plan

    return read_plan(find_plan(Path(path)))


def diff(old: str, new: str) -> Any:
    """The semantic difference of two bundles or plans; compiler.export.difftext.as_text prints it."""
    from compiler.plan.diff import diff_plans

    return diff_plans(load_plan(old), load_plan(new))


if __name__ == "__main__":
    from cli.main import process

    process()
