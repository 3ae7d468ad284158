"""Every error code, its title and what to do about it: the text of `fvc explain CODE` and of docs/errors.md.

0xx usage and configuration, 1xx models and import, 2xx capacity and plans, 3xx binaries and bundles,
4xx execution and verification, 5xx devices and clusters, 9xx defects of fvc.
"""

from __future__ import annotations

CATALOG: dict[str, tuple[str, str]] = {
    "FVC900": ("internal error", "A defect of fvc itself. Please report it with the command line and the model."),
}
