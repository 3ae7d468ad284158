"""Channels: bounded FIFOs between ranks, with the credits of docs/machine.md and the checks of both ends."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from compiler.executor.faults import ILLEGAL, MESSAGE, Fault, MachineError
from compiler.isa.program import Channel, DeviceProgram


@dataclass(slots=True)
class Fifo:
    """The messages of one channel under way: (tag, bytes), oldest first."""

    spec: Channel
    messages: deque[tuple[int, bytes]] = field(default_factory=deque)
    sent_bytes: int = 0

    @property
    def full(self) -> bool:
        return len(self.messages) >= self.spec.capacity

    def send(self, tag: int, message: bytes) -> None:
        """Raises Fault if the message is larger than the channel's messages may be."""
        if len(message) > self.spec.max_bytes:
            raise Fault(
                MESSAGE, f"sends {len(message)} bytes into channel {self.spec.id}, whose limit is {self.spec.max_bytes}"
            )
        self.messages.append((tag, message))
        self.sent_bytes += len(message)

    def take(self, tag: int) -> bytes:
        """The oldest message; raises Fault if its tag is another one."""
        got, message = self.messages[0]
        if got != tag:
            raise Fault(MESSAGE, f"expects tag {tag} from channel {self.spec.id}, but the message there has tag {got}")
        self.messages.popleft()
        return message

    def end(self, source: int, target: int) -> None:
        """Raises Fault unless this channel leads from rank `source` to rank `target`."""
        if (self.spec.source_rank, self.spec.target_rank) != (source, target):
            raise Fault(
                ILLEGAL,
                f"uses channel {self.spec.id} from rank {source} to rank {target}, "
                f"but it leads from {self.spec.source_rank} to {self.spec.target_rank}",
            )


def fifos(programs: list[DeviceProgram]) -> dict[int, Fifo]:
    """One Fifo a channel id. A channel stands in the program of each end; both must say the same."""
    out: dict[int, Fifo] = {}
    for program in programs:
        for channel in program.channels:
            known = out.get(channel.id)
            if known is None:
                if channel.capacity < 1:
                    raise MachineError(
                        ILLEGAL, f"channel {channel.id} has capacity {channel.capacity}", where=(program.name,)
                    )
                out[channel.id] = Fifo(channel)
            elif known.spec != channel:
                raise MachineError(
                    ILLEGAL,
                    f"channel {channel.id} is not the same in two binaries",
                    where=(f"{program.name}: {channel}", f"elsewhere: {known.spec}"),
                )
    return out
