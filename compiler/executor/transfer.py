"""LD, ST, TX, RX and CRC: copies between a core's DRAM image, its scratchpads and messages.

A WORK box has one window a frame slot, address = dram_addr + (frame mod depth) * frame_stride.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from compiler.executor.faults import BAD_ADDRESS, CHECKSUM, ILLEGAL, MESSAGE, Fault
from compiler.executor.memory import ALWAYS, ELEMENT, Action, Memory, Region, Window, fields_of
from compiler.isa.program import Instruction
from compiler.isa.table import Flag, Space


def dram_windows(region: Region, f: dict[str, int], *, write: bool = False) -> list[Window]:
    """The box of LD, ST, TX or RX in DRAM, one window a frame slot."""
    if f["elem"] not in ELEMENT:
        raise Fault(ILLEGAL, f"has elements of {f['elem']} bytes")
    if f["depth"] < 1:
        raise Fault(ILLEGAL, "has a buffer of depth 0")
    counts, strides = (f["n2"], f["n1"], f["n0"]), (f["dram_s2"], f["dram_s1"], f["dram_s0"])
    if region.size and f["depth"] > 1 and f["frame_stride"] == 0 and write:
        raise Fault(ILLEGAL, "has frame slots that lie on each other")
    return [
        region.box(f["dram_addr"] + k * f["frame_stride"], counts, strides, ELEMENT[f["elem"]], write=write)
        for k in range(f["depth"])
    ]


def _space(memory: Memory, f: dict[str, int], name: str, allowed: tuple[Space, ...]) -> Region:
    if f[name] not in allowed:
        raise Fault(ILLEGAL, f"names {name} {f[name]}")
    return memory[Space(f[name])]


def _scratch_window(
    region: Region, f: dict[str, int], address: int, counts: tuple[int, int, int], *, write: bool
) -> Window:
    elem = f["elem"]
    words = region.name in ("ACC", "TAB")
    if words and address % 4 and write and elem > 1:
        raise Fault(BAD_ADDRESS, f"uses {region.name} address {address}, which is no multiple of 4")
    return region.box(address, counts, (f["scratch_s2"], f["scratch_s1"], elem), ELEMENT[elem], write=write)


def build_ld(memory: Memory, ins: Instruction) -> Action:
    f = fields_of(ins)
    dram = dram_windows(_space(memory, f, "dram_space", (Space.CONST, Space.WORK)), f)
    region = _space(memory, f, "scratch_space", (Space.ACT, Space.WGT, Space.ACC, Space.TAB))
    top, bottom, left, right = f["pad_top"], f["pad_bottom"], f["pad_left"], f["pad_right"]
    padded = bool(top or bottom or left or right)
    if padded and f["elem"] != 1:
        raise Fault(ILLEGAL, "pads elements of more than one byte")
    if region.name in ("ACC", "TAB") and f["scratch_addr"] % 4:
        raise Fault(BAD_ADDRESS, f"uses {region.name} address {f['scratch_addr']}, which is no multiple of 4")
    whole = _scratch_window(
        region, f, f["scratch_addr"], (f["n2"], f["n1"] + top + bottom, f["n0"] + left + right), write=True
    )
    depth = len(dram)
    if ins.flags & Flag.ONCE:
        load = build_ld(memory, replace(ins, flags=ins.flags & ~Flag.ONCE))

        def run_once(frame: int) -> None:
            load(frame)
            whole.mark(ALWAYS)

        return run_once
    if padded:
        # The fill covers the whole box first: its stamps then hold for the inside too.
        inside = whole.data[:, top : top + f["n1"], left : left + f["n0"]]

        def run_padded(frame: int) -> None:
            values = dram[frame % depth].read(frame)
            whole.write(f["fill"], frame)
            inside[...] = values

        return run_padded

    def run(frame: int) -> None:
        whole.write(dram[frame % depth].read(frame), frame)

    return run


def build_st(memory: Memory, ins: Instruction) -> Action:
    f = fields_of(ins)
    region = _space(memory, f, "scratch_space", (Space.ACT, Space.ACC))
    if region.name == "ACC" and f["scratch_addr"] % 4:
        raise Fault(BAD_ADDRESS, f"uses {region.name} address {f['scratch_addr']}, which is no multiple of 4")
    dram = dram_windows(memory[Space.WORK], f, write=True)
    source = _scratch_window(region, f, f["scratch_addr"], (f["n2"], f["n1"], f["n0"]), write=False)
    depth = len(dram)

    def run(frame: int) -> None:
        dram[frame % depth].write(source.read(frame), frame)

    return run


def _message_size(f: dict[str, int]) -> int:
    size = f["n2"] * f["n1"] * f["n0"] * f["elem"]
    if f["bytes"] != size:
        raise Fault(MESSAGE, f"says bytes={f['bytes']} for a box of {size}")
    return size


def _near_end(memory: Memory, f: dict[str, int], *, write: bool) -> list[Window]:
    """What a message is read from or written to: a WORK box, one window a frame slot, or a run of WGT or ACT."""
    if not (f["wgt"] or f["act"]):
        return dram_windows(memory[Space.WORK], f, write=write)
    space = Space.WGT if f["wgt"] else Space.ACT
    if (f["n2"], f["n1"], f["elem"], f["depth"]) != (1, 1, 1, 1) or (f["wgt"] and f["act"]):
        raise Fault(ILLEGAL, f"names a part of {space.name} that is no run of bytes")
    return [memory[space].box(f["part_addr"], (1, 1, f["n0"]), (0, 0, 1), write=write)]


def build_tx(memory: Memory, ins: Instruction) -> Callable[[int], bytes]:
    """frame -> message: the box packed row-major."""
    f = fields_of(ins)
    if _message_size(f) == 0:
        return lambda frame: b""  # a barrier
    dram = _near_end(memory, f, write=False)
    depth = len(dram)
    return lambda frame: dram[frame % depth].read(frame).tobytes()


def _take_barrier(frame: int, message: bytes) -> None:
    if message:
        raise Fault(MESSAGE, f"takes a message of {len(message)} bytes as a barrier")


def build_rx(memory: Memory, ins: Instruction) -> Callable[[int, bytes], None]:
    """(frame, message) -> unpacked into the box; a message of another size is a Fault."""
    f = fields_of(ins)
    size = _message_size(f)
    if size == 0:
        return _take_barrier
    dram = _near_end(memory, f, write=True)
    depth = len(dram)

    def run(frame: int, message: bytes) -> None:
        if len(message) != size:
            raise Fault(MESSAGE, f"takes a message of {len(message)} bytes for a box of {size}")
        window = dram[frame % depth]
        window.write(np.frombuffer(message, window.data.dtype).reshape(window.data.shape), frame)

    return run


def build_crc(memory: Memory, ins: Instruction) -> Action:
    f = fields_of(ins)
    region = memory[Space.CONST]
    if f["dram_addr"] + f["bytes"] > region.size:
        raise Fault(
            BAD_ADDRESS, f"touches CONST bytes [{f['dram_addr']}, {f['dram_addr'] + f['bytes']}) of {region.size}"
        )
    part = region.data[f["dram_addr"] : f["dram_addr"] + f["bytes"]]
    known: list[int] = []  # CONST never changes: the sum of one run is that of all

    def run(_: int) -> None:
        if not known:
            known.append(zlib.crc32(part.tobytes()))
        if known[0] != f["expect"]:
            raise Fault(CHECKSUM, f"finds CRC-32 {known[0]:08x} of CONST where {f['expect']:08x} is expected")

    return run
