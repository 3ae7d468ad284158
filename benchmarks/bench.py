"""`python -m benchmarks.bench`: what a user feels — start-up, and quantized ResNet-50 onto u280x4 whole command.

Figures, not tests: machines are shared and noisy, so each is printed and stored beside a reference taken in the same
run (the start of a bare interpreter, one float32 matrix product), which makes ratios comparable between machines.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "bench.json"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def run(command: list[str]) -> tuple[float, int, str]:
    """Wall seconds, peak resident KiB and stderr of a whole process."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        err.seek(0)
        text = err.read()
    if status != 0:
        raise SystemExit(f"{' '.join(command)} ended with status {status}\n{text[-2000:]}")
    return seconds, usage.ru_maxrss, text


def startup() -> dict[str, float]:
    """Median seconds of `fvc --help` over seven runs, beside a bare interpreter."""
    program = str(Path(sys.executable).parent / "fvc")
    help_s = [run([program, "--help"])[0] for _ in range(7)]
    bare_s = [run([sys.executable, "-c", "pass"])[0] for _ in range(7)]
    return {"help_s": round(statistics.median(help_s), 3), "bare_python_s": round(statistics.median(bare_s), 3)}


def matrix_product() -> float:
    """Median seconds of one 2048³ float32 product on one thread: the unit of this machine, now."""
    code = (
        "import numpy, time; a = numpy.ones((2048, 2048), 'f4'); a @ a; t = [];\n"
        "for _ in range(5):\n s = time.perf_counter(); a @ a; t.append(time.perf_counter() - s)\n"
        "print(sorted(t)[2])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return round(float(done.stdout), 4)


def resnet50(folder: Path) -> dict[str, Any]:
    """The whole command on the quantized zoo network: time by step, memory, solver status and gap."""
    model, bundle = folder / "resnet50.onnx", folder / "bundle"
    run([sys.executable, "-m", "fvc", "zoo", "resnet50", "--quantized", "-o", str(model)])
    command = [sys.executable, "-m", "fvc", "partition", str(model), "--devices", "u280x4", "-o", str(bundle)]
    seconds, peak_kib, messages = run(command)
    plan = json.loads((bundle / "plan.json").read_text())
    verification = json.loads((bundle / "verify.json").read_text())
    steps = {name: float(value) for name, value in re.findall(r"(\w+)\s+(\d+\.\d+) s", messages)}
    return {
        "wall_s": round(seconds, 1),
        "peak_mib": peak_kib // 1024,
        "steps_s": steps,
        "solver": plan["solver"]["status"],
        "gap": plan["solver"]["gap"],
        "fps": plan["predicted"]["fps"],
        "mismatches": verification["mismatches"],
        "elements": verification["elements"],
    }


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            "schema": "fvc.bench/1",
            "cores": os.cpu_count(),
            "reference_product_s": matrix_product(),
            "startup": startup(),
            "resnet50_u280x4": resnet50(Path(folder)),
        }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
