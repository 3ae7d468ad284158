"""What the network adds to a payload: UDP packets on 100 Gb/s Ethernet, as the VNx stack makes them.

Sources: Xilinx/xup_vitis_network_example (README: payloads of 1,408 bytes, 22 words of 512 bits); IEEE 802.3 (preamble
and start 8 bytes, header 14, check sequence 4, gap 12, least frame 64); RFC 791 (20) and RFC 768 (8).
"""

from __future__ import annotations

from cost_models.primitives import ceil_div

PAYLOAD_BYTES = 1408
HEADER_BYTES = 8 + 14 + 20 + 8 + 4 + 12
LEAST_FRAME_BYTES = 64 + 8 + 12  # with preamble and gap


def packets(payload_bytes: int) -> int:
    """Packets of a message. ValueError for a negative size."""
    if payload_bytes < 0:
        raise ValueError(f"a message of {payload_bytes} bytes")
    return ceil_div(payload_bytes, PAYLOAD_BYTES)


def wire_bytes(payload_bytes: int) -> int:
    """Bytes that a message by itself takes of the line, headers, gaps and the padding of short frames included."""
    whole, rest = divmod(payload_bytes, PAYLOAD_BYTES)
    last = max(LEAST_FRAME_BYTES, rest + HEADER_BYTES) if rest else 0
    return whole * (PAYLOAD_BYTES + HEADER_BYTES) + last


def payload_rate(line_bits_per_second: int) -> int:
    """Payload bits a second of a line that carries full packets back to back."""
    return line_bits_per_second * PAYLOAD_BYTES // (PAYLOAD_BYTES + HEADER_BYTES)
