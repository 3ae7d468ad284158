"""One BLAS thread for the executor: small matrix products gain nothing from more and suffer beside other work.

NumPy has no public switch; its bundled OpenBLAS exports one, found through the library file that NumPy loaded.
Where it is not found nothing happens: results do not depend on it, only time.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

import numpy as np

_SYMBOLS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
)


@lru_cache(maxsize=1)
def pin_one_thread() -> bool:
    """Sets the thread count of NumPy's own OpenBLAS to one; True if it was found. Needs NumPy's wheel layout."""
    root = Path(np.__file__).parent
    for folder in (root.parent / "numpy.libs", root / ".dylibs", root / ".libs"):
        for file in sorted(folder.glob("*openblas*")) if folder.is_dir() else ():
            try:
                library = ctypes.CDLL(str(file))
            except OSError:
                continue
            for symbol in _SYMBOLS:
                function = getattr(library, symbol, None)
                if function is not None:
                    function(ctypes.c_int(1))
                    return True
    return False
