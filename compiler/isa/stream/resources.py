"""What a unit takes of its die: the cost models of `cost_models.finn`, asked with the unit's own fields.

Units that FINN has are asked for under its name and attributes (`finn_node`), which is also what an export writes.
REQ, TAB, BIN, BUF, ADD, MEM and the boundary units have no peer: counted from their structure here, not calibrated.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from compiler.isa.program import Instruction
from compiler.isa.stream.ports import frame_elements, ports
from compiler.isa.stream.table import BRAM, BRIDGES, LUTRAM, MEMORIES, RTL, URAM
from cost_models.finn import Estimate, estimate
from cost_models.finn.fifo import fifo_cost
from cost_models.finn.memory import ladder_bram18, uram288
from cost_models.primitives import ceil_div
from device_db.model import Resources

PARTS = {"versal": "xcv80-lsva4737-2MHP-e-S"}  # any part of the family: the models only ask for its DSP slice
FINN_STYLES = ("distributed", "block", "ultra")
FIFO_STYLES = ("auto", "block", "ultra")
CONTROL_LUT, CONTROL_FF = 60, 80  # counters and handshake of a unit of ours
READER_LUT, READER_FF, BURST_WORDS = 400, 600, 64  # a reader of DRAM: burst master, and a burst that is under way
HANDSHAKE_WIRES = 2  # valid and ready
BRIDGE_PORT_LUT, BRIDGE_PORT_FF = 900, 1300  # a stream of 512 bits aligned to bytes and back: not calibrated


def type_name(bits: int, signed: bool) -> str:
    """QONNX's name of an element type; one signed bit is bipolar."""
    if bits == 1:
        return "BIPOLAR" if signed else "BINARY"
    return f"{'INT' if signed else 'UINT'}{bits}"


def _x(f: dict[str, int]) -> str:
    return type_name(f["x_bits"], bool(f["x_signed"]))


def _y(f: dict[str, int]) -> str:
    return type_name(f["y_bits"], bool(f["y_signed"]))


def finn_node(ins: Instruction) -> tuple[str, dict[str, Any]] | None:
    """The peer's operator and attributes of a unit; None where it has none."""
    f, op = ins.fields, ins.op
    if op in ("MVAU", "VVAU"):
        kind = "rtl" if f["variant"] == RTL else "hls"
        common: dict[str, Any] = {
            "PE": f["pe"],
            "SIMD": f["simd"],
            "inputDataType": _x(f),
            "weightDataType": type_name(f["w_bits"], True),
            "accDataType": _y(f),
            "outputDataType": _y(f),
            "noActivation": 1,
            "mem_mode": "external" if f["memory"] > URAM else "internal_decoupled",
            "ram_style": FINN_STYLES[min(f["memory"], URAM)],
            "resType": "dsp" if kind == "rtl" else "lut",
        }
        if op == "MVAU":
            own = {"MW": f["mw"], "MH": f["mh"] * f["groups"], "numInputVectors": [f["pixels"]]}
        else:
            own = {"Channels": f["channels"], "Kernel": [1, f["taps"]], "Dim": [1, f["pixels"]]}
        return f"{op}_{kind}", common | own
    if op == "WIN":
        whole = f["pe_out"] != f["pe"]
        return "ConvolutionInputGenerator_rtl", {
            "ConvKernelDim": [f["kh"], f["kw"]],
            "IFMChannels": f["channels"],
            "IFMDim": [f["in_h"], f["in_w"]],
            "OFMDim": [f["oh"], f["ow"]],
            "SIMD": f["pe"],
            "Stride": [f["sh"], f["sw"]],
            "Dilation": [f["dh"], f["dw"]],
            "inputDataType": _x(f),
            "depthwise": int(f["block"] != f["channels"]),
            "parallel_window": int(whole),
            "ram_style": FINN_STYLES[f["memory"]],
            "M": 1,
        }
    if op == "PAD":
        pads = [f["top"], f["left"], f["bottom"], f["right"]]
        return "FMPadding_rtl", {
            "ImgDim": [f["in_h"], f["in_w"]],
            "Padding": pads,
            "NumChannels": f["channels"],
            "SIMD": f["pe"],
            "inputDataType": _x(f),
        }
    if op == "THR":
        kind = "rtl" if f["variant"] == RTL else "hls"
        deep = 1 if f["memory"] == BRAM else 0
        return f"Thresholding_{kind}", {
            "NumChannels": f["channels"],
            "PE": f["pe"],
            "numSteps": f["steps"],
            "inputDataType": _x(f),
            "weightDataType": _x(f) if f["x_bits"] > 1 else "INT2",
            "outputDataType": _y(f),
            "numInputVectors": [f["pixels"]],
            "ram_style": FINN_STYLES[f["memory"]],
            "depth_trigger_bram": deep,
            "depth_trigger_uram": 1 << 30 if deep else 0,
        }
    if op == "POOL":
        return "Pool_hls", {
            "Channels": f["channels"],
            "PE": f["pe"],
            "KernelSize": [1, f["taps"]],
            "Function": "QuantAvgPool" if f["kind"] else "MaxPool",
            "OutImgDims": [1, f["pixels"]],
            "InputDataType": _x(f),
            "OutputDataType": _y(f),
            "AccumBits": 32 if f["kind"] else 0,
        }
    if op == "SUM":
        return "GlobalAccPool_hls", {
            "NumChannels": f["channels"],
            "PE": f["pe"],
            "inputDataType": _x(f),
            "numInputVectors": [1, 1, f["pixels"]],
        }
    if op == "DUP":
        return "DuplicateStreams_hls", {
            "NumChannels": f["channels"],
            "PE": f["pe"],
            "NumOutputStreams": f["outputs"],
            "inputDataType": _x(f),
            "numInputVectors": [f["pixels"]],
        }
    if op == "CAT":
        return "StreamingConcat_hls", {
            "SIMD": f["pe"],
            "ChannelsPerStream": [f[f"c{k}"] for k in range(f["inputs"])],
            "inputDataTypes": [_x(f)] * f["inputs"],
            "numInputVectors": [f["pixels"]],
        }
    if op == "DWC":
        shape = [f["elements"]]
        return "StreamingDataWidthConverter_rtl", {
            "inShape": shape,
            "outShape": shape,
            "inWidth": f["pe"] * f["x_bits"],
            "outWidth": f["pe_out"] * f["x_bits"],
            "dataType": _x(f),
        }
    if op == "UPS":
        return "UpsampleNearestNeighbour_hls", {
            "SIMD": f["pe"],
            "HI": f["in_h"],
            "WI": f["in_w"],
            "HO": f["in_h"] * f["fh"],
            "WO": f["in_w"] * f["fw"],
            "NumChannels": f["channels"],
            "inputDataType": _x(f),
        }
    if op == "ARG":
        return "LabelSelect_hls", {
            "Labels": f["channels"],
            "PE": f["pe"],
            "K": 1,
            "inputDataType": _x(f),
            "outputDataType": "INT64",
            "numInputVectors": [f["pixels"]],
        }
    return None


def unit_resources(ins: Instruction, family: str) -> Resources:
    """LUT, FF, BRAM18, URAM and DSP of one legal unit."""
    return _cached(ins.op, tuple(sorted(ins.fields.items())), family)


@lru_cache(maxsize=1 << 16)
def _cached(op: str, fields: tuple[tuple[str, int], ...], family: str) -> Resources:
    f = {k: v for k, v in fields if k != "die"}
    from compiler.isa.table import Queue

    ins = Instruction(op, Queue.CTL, f)
    node = finn_node(ins)
    if node is not None:
        part = PARTS.get(family)
        e = estimate(*node, model="fvc") if part is None else estimate(*node, part=part, model="fvc")
        return _plain(e) + (_second_frame(f) if op == "WIN" and f["oh"] == 1 else Resources())
    if op == "REQ":
        return _requantiser(f)
    if op == "TAB":
        # 256 bytes a table: four LUT6 a bit; tables of several channels in block memory, a word a lane.
        folds = f["channels"] // f["pe"]
        many = f["tables"] > 1 and folds > 1
        bram = f["pe"] * ladder_bram18(8, 256 * folds) if many else 0
        return Resources(CONTROL_LUT + (0 if many else 32 * f["pe"]), CONTROL_FF + 16 * f["pe"], bram, 0, 0)
    if op == "BIN":
        return _binary(f)
    if op == "BUF":
        return _frames(f)
    if op == "ADD":
        # A carry chain a sum and lane; each input is taken into a register, and so is the result.
        lane = (f["inputs"] - 1) * f["y_bits"], f["inputs"] * f["x_bits"] + f["y_bits"]
        return Resources(CONTROL_LUT + f["pe"] * lane[0], CONTROL_FF + f["pe"] * lane[1], 0, 0, 0)
    if op in BRIDGES:
        return _bridge(f)
    if op == "MEM":
        # Addresses and bursts of a memory port, a burst of words in shift registers, the word in two registers.
        width = f["pe"] * f["x_bits"]
        return Resources(READER_LUT + width * ceil_div(BURST_WORDS, 32), READER_FF + 2 * width, 0, 0, 0)
    if op == "CROP":
        width = f["pe"] * f["x_bits"]
        return Resources(CONTROL_LUT + 20, CONTROL_FF + 2 * width, 0, 0, 0)
    port = (ports(ins).inputs or ports(ins).outputs)[0]
    return Resources(CONTROL_LUT + port.width_bits, CONTROL_FF + 2 * port.width_bits, 0, 0, 0)


def _plain(e: Estimate) -> Resources:
    return Resources(e.lut, e.ff or 0, e.bram18, e.uram, e.dsp)


def _second_frame(f: dict[str, int]) -> Resources:
    """The line buffer of a window as high as the image takes the next frame in beside the one that it writes; the
    peer's has one frame and waits."""
    width, depth = f["pe"] * f["x_bits"], f["in_h"] * f["in_w"] * f["channels"] // f["pe"]
    if f["memory"] == BRAM:
        return Resources(0, 0, ladder_bram18(width, depth), 0, 0)
    return Resources(width * ceil_div(depth, 64), 0, 0, 0, 0)


def _requantiser(f: dict[str, int]) -> Resources:
    """A lane: 32 x 31 bits in four DSP slices (27 x 18 each; six for sums of up to 54 bits), a 64-bit addition, a
    shifter of six stages over 64 bits (two stages a LUT6) and a clamp. The entries stand in memory, 16 bytes a
    channel."""
    folds = f["channels"] // f["pe"]
    width = 128 * f["pe"]
    bram = ladder_bram18(width, folds) if folds > 64 else 0
    lutram = 0 if folds > 64 else width * ceil_div(folds, 64)
    dsp = 4 if f["x_bits"] <= 32 else 6
    return Resources(CONTROL_LUT + f["pe"] * 290 + lutram, CONTROL_FF + f["pe"] * 330, bram, 0, dsp * f["pe"])


def _binary(f: dict[str, int]) -> Resources:
    """A lane: two products of 8 (16 at most) x 31 bits (two DSP slices each; multiply: one of 17 x 31), addition,
    shift, clamp. An operand that stays for a frame, or is constant, stands in memory."""
    lane = Resources(180, 220, 0, 0, 4 if f["kind"] == 0 else 2)
    lut, bram = CONTROL_LUT + lane.lut * f["pe"], 0
    for side in "ab":
        shape = f[f"{side}_shape"]
        if shape & 5:
            positions = 1 if shape & 1 else f["pixels"]
            channels = 1 if shape & 2 else f["channels"]
            pe = 1 if shape & 2 else f["pe"]
            depth = positions * channels // pe
            if depth > 64:
                bram += ladder_bram18(8 * pe, depth)
            else:
                lut += 8 * pe * ceil_div(depth, 64)
    return Resources(lut, CONTROL_FF + lane.ff * f["pe"], bram, 0, lane.dsp * f["pe"])


def _frames(f: dict[str, int]) -> Resources:
    """Two frames of every input, and an address generator of about 40 LUTs a dimension."""
    width, bram, uram, lut = f["pe"] * f["x_bits"], 0, 0, 300
    for k in range(f["inputs"]):
        depth = 2 * f[f"n{k}"] // f["pe"]
        if f["memory"] == URAM:
            uram += uram288(width, depth)
        elif f["memory"] == BRAM:
            bram += ladder_bram18(width, depth)
        else:
            lut += width * ceil_div(depth, 64)
    return Resources(lut, CONTROL_FF + 4 * width, bram, uram, 0)


def _bridge(f: dict[str, int]) -> Resources:
    """Its frame buffer, byte by byte on the side of the messages and word by word on that of the stream; two address
    generators of about 40 LUTs a dimension, the port of the channel (512 bits) with its alignment."""
    width = f["pe"] * f["bits"]
    depth = f["frames"] * frame_elements(f) // f["pe"]
    lut, bram, uram = 2 * 160 + BRIDGE_PORT_LUT, 0, 0
    if f["memory"] == URAM:
        uram = uram288(width, depth)
    elif f["memory"] == BRAM:
        bram = ladder_bram18(width, depth)
    else:
        lut += width * ceil_div(depth, 64)
    return Resources(CONTROL_LUT + lut, CONTROL_FF + 2 * width + BRIDGE_PORT_FF, bram, uram, 0)


def fifo_resources(width_bits: int, depth: int, memory: int, family: str) -> Resources:
    """A stream's FIFO; memory LUTRAM lets the depth decide between shift registers and LUTRAM."""
    padded = ceil_div(width_bits, 8) * 8
    lut, bram, uram = fifo_cost(
        depth, padded, "distributed" if memory == LUTRAM else FIFO_STYLES[min(memory, URAM)], family == "versal"
    )
    return Resources(lut, padded + 20, bram, uram, 0)


def stream_wires(width_bits: int) -> int:
    """SLL wires of a stream that crosses a boundary: its word in whole bytes, valid and ready."""
    return ceil_div(width_bits, 8) * 8 + HANDSHAKE_WIRES


__all__ = ["FINN_STYLES", "MEMORIES", "fifo_resources", "finn_node", "stream_wires", "type_name", "unit_resources"]
