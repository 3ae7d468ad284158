"""UDP over 100 Gb/s Ethernet, worked by hand."""

from __future__ import annotations

import pytest

from cost_models import network as n


def test_a_full_packet_carries_66_bytes_beside_its_payload() -> None:
    # Preamble 8, Ethernet 14, IPv4 20, UDP 8, check sequence 4, gap 12.
    assert n.wire_bytes(1408) == 1408 + 66
    assert n.wire_bytes(3 * 1408 + 100) == 3 * 1474 + 166
    assert (n.packets(0), n.packets(1), n.packets(1408), n.packets(1409)) == (0, 1, 1, 2)


def test_short_frames_are_padded_to_64_bytes() -> None:
    # 14 + 20 + 8 + 4 leave 18 bytes of payload in a frame of 64; preamble and gap come on top.
    assert [n.wire_bytes(k) for k in (0, 1, 18, 19)] == [0, 84, 84, 85]


def test_the_rate_that_packets_leave() -> None:
    assert n.payload_rate(100_000_000_000) == 95_522_388_059  # 1408 / 1474
    with pytest.raises(ValueError):
        n.packets(-1)
