"""The C reader, built from docs/container.md alone, agrees with the Python one on good, linked and damaged files."""

from __future__ import annotations

import random
import shutil
import subprocess
import zlib
from collections import Counter
from pathlib import Path

import pytest
from isa_strategies import random_program

from compiler.isa import LinkMap, link, read_device, write_device
from compiler.isa.file import read_header, repair_hashes
from compiler.isa.layout import LAYOUTS
from compiler.isa.reader import read_image
from compiler.isa.sections import SectionType
from compiler.isa.table import Queue
from device_db.errors import FvcError

SOURCE = Path(__file__).parents[2] / "examples" / "reader" / "fvcb.c"
COMPILER = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    assert COMPILER is not None
    binary = tmp_path_factory.mktemp("reader") / "fvcb"
    options = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2"]
    subprocess.run([COMPILER, *options, "-o", str(binary), str(SOURCE)], check=True)

    def run(data: bytes) -> subprocess.CompletedProcess[bytes]:
        path = binary.parent / "file.fvcb"
        path.write_bytes(data)
        return subprocess.run([str(binary), str(path)], capture_output=True, timeout=20, check=False)

    return run


def expected(data: bytes) -> str:
    program = read_device(data)
    lines = [f"section {s.name} offset {s.offset} size {s.size}" for s in read_header(data).sections]
    lines.append(f"device {program.name}")
    order = list(LAYOUTS)
    for c in program.cores:
        e = c.engine
        crc = zlib.crc32(c.constants)
        lines.append(
            f"core {c.rank} engine {e.id} {e.tm}x{e.tn} constants {len(c.constants)} crc {crc:08x} work {c.work_bytes}"
        )
        for q in Queue:
            mix = Counter(i.op for i in c.queues.get(q, []))
            lines.append("  " + " ".join([q.name, *(f"{op} {mix[op]}" for op in order if mix[op])]))
    relocations = len(read_image(data).tables[SectionType.RELOCATIONS])
    lines.append(f"channels {len(program.channels)} host messages {len(program.host)} relocations {relocations}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("seed", range(5))
def test_summary_equals_the_python_readers(reader, seed):
    data = write_device(random_program(seed, cores=1 + seed % 3))
    moved = link(data, LinkMap(ranks={0: 40}, bases={0: {"acc": 64, "work": 4096}}))
    for image in (data, moved):
        done = reader(image)
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode() == expected(image)


def test_damage_is_refused(reader):
    data = write_device(random_program(7))
    rng = random.Random(1)
    for _ in range(40):
        broken = bytearray(data)
        broken[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        assert reader(bytes(broken)).returncode == 1
    for broken in (b"", data[:100], data[:-1], data + b"\0"):
        assert reader(broken).returncode == 1


def test_a_flipped_constant_with_repaired_hashes_is_refused(reader):
    data = bytearray(write_device(random_program(12)))
    entry = next(e for e in read_header(bytes(data)).sections if e.type == SectionType.CONSTANTS)
    data[entry.offset] ^= 1
    done = reader(repair_hashes(bytes(data)))
    assert done.returncode == 1
    assert b"golden" in done.stderr


def test_hostile_files_end_with_a_verdict(reader):
    """Hashes repaired, contents damaged: the C reader gives a verdict; Python is at least as strict."""
    data = write_device(random_program(3, cores=2, length=10))
    rng = random.Random(2)
    for _ in range(120):
        broken = bytearray(data)
        at = rng.randrange(128 + 64 * 20, len(data))
        broken[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        image = repair_hashes(bytes(broken))
        code = reader(image).returncode
        assert code in (0, 1)
        try:
            read_device(image)
        except FvcError:
            continue
        assert code == 0
