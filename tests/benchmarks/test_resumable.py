"""Records stand while the files that made them stand, and no longer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import loaded
from benchmarks.resumable import Table
from benchmarks.slices import FACTORS, cases


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.setattr(loaded, "ROOT", tmp_path)
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b.py").write_text("2")
    table = Table(tmp_path / "table.json", "t/1", ("verified",))
    files = ["a.py"]
    table.add("case", {"status": "verified", "sources": "old", "files": files, "content": loaded.digest(files)})
    return table


def again(table: Table) -> Table:
    read = Table(table.path, table.schema, table.passed)
    read.load()
    return read


def test_a_record_stands_while_its_files_do(table: Table, tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text("not used by the case")
    assert again(table).fresh("case", "new")
    (tmp_path / "a.py").write_text("3")
    assert not again(table).fresh("case", "new")
    assert again(table).fresh("case", "old"), "the very same tree, whatever the list says"
    assert again(table).fresh("case", "new", any_version=True)


def test_a_file_that_is_gone_counts_as_changed(table: Table, tmp_path: Path) -> None:
    (tmp_path / "a.py").unlink()
    assert not again(table).fresh("case", "new")


def test_a_record_without_a_list_stands_by_its_tree_alone(table: Table) -> None:
    table.add("plain", {"status": "verified", "sources": "old"})
    assert again(table).fresh("plain", "old") and not again(table).fresh("plain", "new")
    assert not again(table).fresh("absent", "new")


def test_lists_are_kept_once(table: Table) -> None:
    table.add("twin", {"status": "verified", "sources": "old", "files": ["a.py"], "content": "x"})
    document = json.loads(table.path.read_text())
    assert list(document["loads"].values()) == [["a.py"]]
    assert document["cases"]["twin"]["loaded"] == document["cases"]["case"]["loaded"]


def test_each_pair_of_format_and_model_cluster_or_factor_is_covered() -> None:
    found = [(c, (c.form, c.sign, c.granularity)) for c in cases()]
    formats = {f for _, f in found}
    assert len(formats) == 6
    for of in ("model", "cluster"):
        pairs = {(getattr(c, of), f) for c, f in found}
        assert len(pairs) == len({p[0] for p in pairs}) * len(formats)
    assert len({(c.force[:2], f) for c, f in found}) == len(FACTORS) * len(formats)


def test_a_tiled_compile_uses_nothing_of_the_streaming_planner() -> None:
    """The whole compile, seen from a process of its own."""
    script = """
import sys, tempfile
from pathlib import Path
from benchmarks import loaded
loaded.watch()
import onnx
from compiler.frontend.zoo import build
from compiler.partition.options import PartitionOptions
from compiler.pipeline import CompileOptions, compile_model
with tempfile.TemporaryDirectory() as folder:
    model = Path(folder) / "tiny.onnx"
    onnx.save(build("tiny"), model)
    options = CompileOptions("zcu102", partition=PartitionOptions(time_limit_s=0.1))
    compile_model(model, options, output=Path(folder) / "b")
print("\\n".join(loaded.used({"zcu102"})))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=loaded.ROOT, capture_output=True, text=True, check=True)
    files = done.stdout.splitlines()
    assert {"compiler/pipeline.py", "cost_models/tiled.py", "device_db/boards/zcu102.toml"} <= set(files)
    streaming = ("compiler/partition/stream/", "compiler/ops/stream/", "cost_models/finn/", "compiler/executor/stream/")
    assert not [f for f in files if f.startswith(streaming)]
    assert not [f for f in files if f.endswith(".toml") and "zcu102" not in f]
