"""What layers read of weights that stand in DRAM, and what the memory banks give."""

from __future__ import annotations

from compiler.ir.graph import Conv, Node
from compiler.ops.stream.conv import weight_bits
from compiler.ops.stream.memory import banks_of
from compiler.ops.stream.sliced import Join
from device_db.model import Cluster

SHARES_BITS = 20  # of what the banks read in an interval: bytes are counted in units of 2^-20 of it


def positions(node: Conv) -> int:
    """Times a frame that all weights of a layer pass."""
    return node.y_shape[0] * node.y_shape[2] * node.y_shape[3]


def read_bits(node: Conv) -> int:
    """Bits of weights that a layer reads a frame."""
    return int(node.weight.size) * weight_bits(node) * positions(node)


def read_bytes(node: Node) -> int:
    """Whole bytes of weights that an engine reads a frame at least, where they stand in DRAM; 0 where it has none."""
    return read_bits(node) // 8 if isinstance(node, Conv) and not isinstance(node, Join) else 0


def rate_of(cluster: Cluster, devices: int) -> int:
    """Bytes a second of all banks together."""
    return sum(b.bytes_per_second for d in range(devices) for b in banks_of(cluster.devices[d].board))
