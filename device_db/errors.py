"""The one exception that users see. It lives in the lowest package so that every room can raise it."""

from __future__ import annotations


class FvcError(Exception):
    """A condition that is reported as an error block: code, what, where, demand against supply, levers.

    code: stable, "FVC203"; its explanation stands in compiler/catalog.py.
    where: "--> " lines: ONNX node, device, die, file and line.
    help: levers, the cheapest first.
    exit_code: 1 the answer is no; 2 bad usage or bad input; 70 a defect of fvc.
    """

    def __init__(
        self, code: str, what: str, *, where: tuple[str, ...] = (), help: tuple[str, ...] = (), exit_code: int = 2
    ) -> None:
        super().__init__(f"error[{code}]: {what}")
        self.code = code
        self.what = what
        self.where = where
        self.help = help
        self.exit_code = exit_code

    def block(self) -> str:
        """The error block as plain text."""
        lines = [f"error[{self.code}]: {self.what}"]
        lines += [f"  --> {w}" for w in self.where]
        lines += [f"  help: {h}" for h in self.help]
        return "\n".join(lines)
