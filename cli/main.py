"""The entry point of `fvc`: turns every outcome of a command into an exit code and at most one error block.

0 done, 1 the answer is no, 2 bad usage or input, 130 interrupted, 70 a defect of fvc itself (never a bare traceback).
Everything but the standard library is imported inside, so that an interrupt while it loads ends as one later does.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from device_db.errors import FvcError


def process() -> NoReturn:
    """`main` as the whole of a process, which ends here and now.

    The interpreter's own way out would meet a late Ctrl-C with its default handler, and turns an interrupt that once
    passed through an import into death by signal, although it was caught."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:  # closed by the caller: what is said goes nowhere
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, number)
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code and prints an error block instead of raising."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _judged(words)
    except KeyboardInterrupt:
        print("interrupted: nothing is half-written", file=sys.stderr)
        return 130


def _judged(words: list[str]) -> int:
    """One command; whatever it raises but an interrupt becomes an exit code and an error block."""
    from cli.interrupt import leave_on_interrupt

    try:
        with leave_on_interrupt():
            from cli.show import output
            from device_db.errors import FvcError

            return _run(words)
    except KeyboardInterrupt:
        raise
    except FvcError as problem:
        output.error(problem, as_json=_wants_json(words))
        return problem.exit_code
    except BrokenPipeError:
        return _reader_went_away()
    except SystemExit as leaving:  # typer's own handling of a broken pipe
        if isinstance(leaving.__context__, BrokenPipeError):
            return _reader_went_away()
        raise
    except OSError as problem:
        if _interrupted(problem):
            raise KeyboardInterrupt from None
        refused = _refused_by_system(problem)
        output.error(refused, as_json=_wants_json(words) and problem.filename is not None)
        return refused.exit_code
    except MemoryError:
        short = FvcError("FVC008", "out of memory", help=("use a machine with more memory, or a smaller model",))
        output.error(short, as_json=_wants_json(words))
        return short.exit_code
    except Exception as defect:
        if _interrupted(defect):
            raise KeyboardInterrupt from None
        output.error(_defect(defect, words), as_json=_wants_json(words))
        return 70


def _run(words: list[str]) -> int:
    import typer

    from cli.app import USAGE_ERROR, app, usage_problem

    try:
        result = app(args=words, prog_name="fvc", standalone_mode=False)
    except USAGE_ERROR as problem:
        raise usage_problem(problem) from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    if result == 130:  # typer's word for an interrupt
        raise KeyboardInterrupt
    sys.stdout.flush()
    return result if isinstance(result, int) else 0


def _interrupted(problem: BaseException | None) -> bool:
    """Whether an interrupt stands behind an error: Python wraps one that comes while a class is made."""
    while problem is not None:
        if isinstance(problem, KeyboardInterrupt):
            return True
        problem = problem.__cause__ or problem.__context__
    return False


def _refused_by_system(problem: OSError) -> FvcError:
    """What the operating system would not do, where no command foresaw it: a full disk, a name too long."""
    from device_db.errors import FvcError

    named = [str(name)[:300] for name in (problem.filename, problem.filename2) if name is not None]
    help = ("mend the path, the rights or the space that it speaks of",)
    what = problem.strerror or type(problem).__name__
    return FvcError("FVC009", f"the operating system refuses: {what}", where=tuple(named), help=help)


def _reader_went_away() -> int:
    """The reader of stdout closed it: no fault of ours; what is left in the buffer goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 128 + signal.SIGPIPE


def _wants_json(words: list[str]) -> bool:
    """Whether `--format json` was asked for; looked up in the raw words, because parsing may be what failed."""
    for k, word in enumerate(words):
        if word == "--format=json" or (word == "--format" and words[k + 1 : k + 2] == ["json"]):
            return True
    return os.environ.get("FVC_FORMAT") == "json" and "--format" not in words


def _defect(defect: Exception, words: list[str]) -> FvcError:
    """The block of an internal error; the traceback goes to a file, so that the terminal stays readable."""
    import tempfile
    import traceback

    from device_db.errors import FvcError

    last = traceback.extract_tb(defect.__traceback__)[-1]
    where = [f"{os.path.basename(last.filename)}:{last.lineno} in {last.name}"]
    try:
        with tempfile.NamedTemporaryFile("w", prefix="fvc-crash-", suffix=".log", delete=False) as log:
            log.write(f"fvc {' '.join(words)}\n\n")
            log.writelines(traceback.format_exception(defect))
        where.append(f"the whole story is in {log.name}")
    except OSError:
        where.append("and no crash log could be written")
    what = f"internal error: {type(defect).__name__}: {defect}".split("\n")[0][:300]
    return FvcError(
        "FVC900",
        what,
        where=tuple(where),
        help=("please report it with that file and, if you can, the model",),
        exit_code=70,
    )
