"""What every test shares: one BLAS thread (two gain nothing beside xdist) and a clean environment for commands."""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
for _name in [n for n in os.environ if n.startswith("FVC_") and n != "FVC_GOLDEN"]:
    del os.environ[_name]
