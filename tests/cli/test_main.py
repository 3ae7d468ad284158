"""The entry point: help, exit codes, error blocks, JSON mode, colour, start-up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import tomllib
from pathlib import Path

import pytest

from compiler.catalog import CATALOG
from tests.cli.commands import EXAMPLES, ROOT, fvc, fvc_process

COMMANDS = (
    "partition",
    "verify",
    "run",
    "simulate",
    "inspect",
    "check",
    "devices",
    "quantize",
    "zoo",
    "explain",
    "config",
    "diff",
)


def test_help_names_every_command() -> None:
    found = fvc("--help")
    assert found.code == 0
    assert found.err == ""
    for command in COMMANDS:
        assert f"\n  {command} " in found.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    found = fvc(command, "--help")
    assert found.code == 0
    assert found.out.startswith("Usage: fvc " + command)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys\nfrom cli.main import main\nmain(['--help'])\nprint(*sorted(sys.modules), file=sys.stderr)"
    import subprocess

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(found.stderr.split())
    assert not loaded & {
        "numpy",
        "onnx",
        "onnxruntime",
        "ortools",
        "pydantic",
        "rich",
        "sympy",
        "networkx",
        "compiler.pipeline",
    }


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("partition",),
        ("partition", "model.onnx"),
        ("partition", "model.onnx", "--devices", "u280", "--bogus"),
        ("partition", "model.onnx", "--devices", "u280", "--seed", "many"),
        ("partition", "model.onnx", "--devices", "u280", "--objective", "beauty"),
        ("partition", "model.onnx", "--devices", "u280", "--cores", "0"),
        ("partition", "model.onnx", "--devices", "u280", "--shape", "x"),
        ("partition", "model.onnx", "--devices", "u280", "--shape", "x=1,a"),
        ("partition", "model.onnx", "--devices", "u280", "--replicas", "some"),
        ("diff", "a", "b", "--fail-on", "beauty>5"),
        ("zoo", "resnet50"),
        ("verify",),
    ],
)
def test_bad_usage_is_a_block_and_exit_code_2(words: tuple[str, ...]) -> None:
    found = fvc(*words)
    assert (found.code, found.error_code, found.out) == (2, "FVC001", "")
    assert "Traceback" not in found.err


def test_errors_are_documents_in_json_mode() -> None:
    for words in (("partition", "--format", "json"), ("explain", "FVC0000", "--format=json")):
        found = fvc(*words)
        assert found.code == 2
        assert found.document["schema"] == "fvc.error/1"
        assert found.document["code"] == found.error_code
        assert found.document["exit_code"] == 2


def test_a_defect_is_70_with_a_log_and_no_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("device_db.board_names", lambda: 1 / 0)
    found = fvc("devices", "list")
    assert (found.code, found.error_code, found.out) == (70, "FVC900", "")
    assert "Traceback" not in found.err
    (log,) = tmp_path.glob("fvc-crash-*.log")
    assert "ZeroDivisionError" in log.read_text()
    assert str(log) in found.err


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("device_db.board_names", interrupt)
    found = fvc("devices", "list")
    assert (found.code, found.out) == (130, "")


def test_colour_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in fvc("nonsense").err
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[31m" in fvc("nonsense").err
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in fvc("nonsense").err


def test_every_code_is_explained() -> None:
    for code, (title, text) in CATALOG.items():
        assert code[:3] == "FVC" and len(code) == 6
        assert title and text
        found = fvc("explain", code)
        assert found.code == 0
        assert found.out.startswith(f"{code}: {title}")


def test_the_catalogue_holds_just_the_codes_that_are_raised() -> None:
    import re

    raised = set()
    for room in ("cli", "compiler", "cost_models", "device_db"):
        for path in (ROOT / room).rglob("*.py"):
            if path.name == "catalog.py":
                continue
            for line in path.read_text("utf-8").splitlines():
                if not re.search(r'(==|!=| in) \(?"FVC', line):  # to ask for a code is not to raise it
                    raised |= set(re.findall(r'"(FVC\d{3})"', line))
    assert raised == CATALOG.keys()


def test_explanations_say_what_to_do_or_what_is_wrong() -> None:
    for code, (title, text) in CATALOG.items():
        assert len(text) > len(title) + 10, code
        assert text[-1] in ".]", code


def test_an_unknown_code_is_refused() -> None:
    found = fvc("explain", "FVC999")
    assert (found.code, found.error_code) == (2, "FVC006")


def test_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    found = fvc_process("--version")
    assert (found.returncode, found.stdout) == (0, f"fvc {project['version']}\n")


def test_a_closed_pipe_is_no_defect() -> None:
    import subprocess

    process = subprocess.Popen(
        [sys.executable, "-m", "fvc", "devices", "show", "u280"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    err = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() in (0, 141)
    assert "FVC900" not in err and "Traceback" not in err


@pytest.mark.parametrize(
    "words",
    [("devices", "list"), ("devices", "show", "u280"), ("devices", "show", "u280x4"), ("zoo",), ("config", "show")],
)
def test_json_mode_is_one_document_with_a_schema(words: tuple[str, ...]) -> None:
    found = fvc(*words, "--format", "json")
    assert found.code == 0
    assert found.document["schema"].startswith("fvc.")
    assert os.linesep + os.linesep not in found.out.strip()
    json.loads(found.out)


@pytest.mark.parametrize("module", ["device_db.errors", "cli.app", "typer"])
def test_an_interrupt_while_loading_ends_as_one_later_does(module: str) -> None:
    code = f"""
import os, signal, sys
class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupted())
from cli.main import main
sys.exit(main(["zoo"]))
"""
    import subprocess

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (found.returncode, found.stdout) == (130, ""), found.stderr
    assert found.stderr == "interrupted: nothing is half-written\n"


def test_an_interrupt_that_python_wrapped_is_still_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrapped(words: list[str]) -> int:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as stop:
            raise RuntimeError("Error calling __set_name__") from stop

    monkeypatch.setattr("cli.main._run", wrapped)
    assert fvc("zoo").code == 130


def test_an_interrupt_at_any_moment_of_a_process_is_130() -> None:
    import signal
    import subprocess
    import time

    words = [sys.executable, "-m", "fvc", "partition", "examples/digits.onnx", "-d", "u280x4", "-o", os.devnull + "/x"]
    for delay in (0.12, 0.16, 0.2):
        process = subprocess.Popen(
            [*words, "--frames", "3000"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode in (2, 130)  # never death by the signal itself


def test_what_the_operating_system_refuses_is_a_block(tmp_path: Path) -> None:
    found = fvc("explain", "x" * 5000, "--format", "json")
    assert (found.code, found.error_code) == (2, "FVC009")
    assert found.document["code"] == "FVC009"
    assert fvc("partition", EXAMPLES / "digits.onnx", "-d", "u280", "-o", tmp_path / ("x" * 300)).code == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_device_is_told_and_never_replaced() -> None:
    import subprocess

    before = os.stat("/dev/full").st_rdev
    words = f"{sys.executable} -m fvc"
    full = subprocess.run(f"{words} devices list > /dev/full", shell=True, capture_output=True, text=True, cwd=ROOT)
    assert (full.returncode, "FVC009" in full.stderr) == (2, True)
    for command in ("zoo tiny -o /dev/full", f"quantize {EXAMPLES / 'digits.onnx'} -o /dev/full"):
        found = subprocess.run(f"{words} {command}", shell=True, capture_output=True, text=True, cwd=ROOT)
        assert (found.returncode, "FVC003" in found.stderr) == (2, True), found.stderr
        assert os.stat("/dev/full").st_rdev == before != 0


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_defect(closed: str) -> None:
    import subprocess

    for words, code in (("devices list", 0), ("partition nothing.onnx -d u280", 2)):
        command = f"{sys.executable} -m fvc {words} {closed}"
        found = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT)
        assert (found.returncode, "Traceback" in found.stderr) == (code, False)


def test_a_native_library_that_loads_is_not_interrupted_but_what_follows_is() -> None:
    """Libraries that call Python while they start end the process where that raises."""
    from importlib.machinery import ExtensionFileLoader
    from types import ModuleType

    from cli.interrupt import leave_on_interrupt

    loaded = False

    class Loader(ExtensionFileLoader):
        def exec_module(self, module: ModuleType) -> None:
            nonlocal loaded
            signal.raise_signal(signal.SIGINT)
            loaded = True

    with pytest.raises(KeyboardInterrupt), leave_on_interrupt():
        Loader("a_library", "a_library.so").exec_module(ModuleType("a_library"))
        time.sleep(0.5)
        raise AssertionError("not interrupted")
    assert loaded


def test_an_interrupt_of_what_cannot_raise_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from cli.interrupt import leave_on_interrupt

    told: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", told.append)

    class Ended:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)

    with pytest.raises(KeyboardInterrupt), leave_on_interrupt():
        Ended()
        time.sleep(0.5)
        raise AssertionError("not interrupted")
    assert told == []


def test_an_interrupt_that_is_taken_for_an_answer_is_not_forgotten() -> None:
    """`except Exception` around a library may meet an interrupt that an import made another error of."""
    from cli.interrupt import leave_on_interrupt

    with pytest.raises(KeyboardInterrupt), leave_on_interrupt():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.5)
        time.sleep(0.1)
