"""One fixed-kernel problem through finn-plus's own partitioner: run by the python of an environment that has finn-plus.

stdin: {"tasks", "edges", "needs", "slots", "cost", "limits", "seconds"}; stdout: one JSON object with what it reports.
Knows nothing of this project, so that it starts there.
"""

import contextlib
import json
import sys
import time

import numpy as np
from finn.analysis.fpgadataflow.partitioning import ILP_partitioner


def main() -> None:
    problem = json.load(sys.stdin)
    started = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):
        ilp = ILP_partitioner()
        slots = np.array(problem["slots"])
        ilp.create_model(
            [[tuple(need)] for need in problem["tasks"]],
            [tuple(e) for e in problem["edges"]],
            [tuple(n) for n in problem["needs"]],
            slots,
            problem["cost"],
            problem["limits"],
            np.ones(slots.shape),
        )
        status, objective, solutions = ilp.solve_model(max_seconds=problem["seconds"])
    print(
        json.dumps(
            {
                "status": status.name,
                "objective": objective,
                "bound": ilp.model.objective_bound,
                "solutions": solutions,
                "seconds": round(time.monotonic() - started, 2),
            }
        )
    )


main()
