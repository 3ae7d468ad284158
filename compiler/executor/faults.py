"""Violations of the machine's rules: a `Fault` is raised where it is seen, a `MachineError` says where it happened.

Kernels know addresses but not instructions; the machine knows both and turns one into the other.
"""

from __future__ import annotations

from device_db.errors import FvcError

BAD_ADDRESS = "FVC401"
UNWRITTEN = "FVC402"
DEADLOCK = "FVC403"
TOKENS = "FVC404"
MESSAGE = "FVC405"
CHECKSUM = "FVC406"
ILLEGAL = "FVC407"
HOST = "FVC408"
BAD_INPUT = "FVC409"
MISMATCH = "FVC410"
COVERAGE = "FVC411"
BAD_BUNDLE = "FVC412"


class Fault(Exception):
    """A rule broken by the instruction that is being decoded or executed; carries the code and the sentence."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(what)
        self.code = code
        self.what = what


class MachineError(FvcError):
    """A program did what docs/machine.md forbids. The answer is no (exit code 1), not a defect of the executor."""

    def __init__(self, code: str, what: str, *, where: tuple[str, ...] = (), help: tuple[str, ...] = ()) -> None:
        super().__init__(code, what, where=where, help=help, exit_code=1)
