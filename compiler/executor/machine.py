"""The machine executor: runs the decoded instructions of all cores of all devices on bytes, tokens and messages.

Needs DevicePrograms (from the container), the host segments and the users' frames; guarantees the outputs of every
frame or a `MachineError` that names core, queue, index and ONNX node. It knows docs/machine.md and the instruction
table, and nothing of how programs are made: whatever order tokens and channels allow may be taken (`order_seed`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from compiler.executor.blas import pin_one_thread
from compiler.executor.channels import Fifo, fifos
from compiler.executor.decode import Agent, Core, decode
from compiler.executor.faults import ILLEGAL, Fault, MachineError
from compiler.executor.host import Host, Segment
from compiler.executor.loop import Run
from compiler.executor.makers import Makers
from compiler.executor.observe import AccumulatorHook, OutputHook, OutputMap
from compiler.isa.program import DeviceProgram
from compiler.isa.table import HOST_RANK, Flag, Queue

if TYPE_CHECKING:
    from compiler.executor.stream.bridges import Fabrics
    from compiler.executor.stream.run import FabricRun

Array = NDArray[Any]


@dataclass(slots=True)
class Counters:
    """What a run did: executed instructions by mnemonic, multiply-accumulates, message bytes."""

    instructions: dict[str, int] = field(default_factory=dict)
    macs: int = 0
    message_bytes: int = 0
    iterations: int = 0


class Machine:
    """All cores of a cluster with their programs. `makers`: the functions that a run with `on_output` met.

    hooks: `on_output(piece)` for every stored box whose debug row has the role "output", with the accumulators that its
    bytes were requantised from; `on_accumulator(rank, index,
    frame, acc)` for the int32 [m][count] that a VREQ reads.
    """

    def __init__(self, programs: list[DeviceProgram]) -> None:
        if not programs:
            raise MachineError(ILLEGAL, "there is no program to run")
        pin_one_thread()
        self.programs = programs
        self.replicas = max(1, programs[0].replicas)
        if self.replicas > max(1, sum(len(p.host) for p in programs)):  # before frames are made for so many
            raise MachineError(ILLEGAL, f"{self.replicas} replicas, fewer messages from and to the host")
        self.counters = Counters()
        self.makers = Makers()
        ranks = [rank for p in programs for rank in p.ranks]
        if len(set(ranks)) != len(ranks) or HOST_RANK in ranks:
            raise MachineError(ILLEGAL, f"core ranks are not distinct: {ranks}")
        self.mixed = any(p.fabric is not None for p in programs) and any(p.cores for p in programs)
        self.streaming = not self.mixed and any(p.fabric is not None for p in programs)
        if self.mixed and self.replicas > 1:
            raise MachineError(ILLEGAL, f"{self.replicas} replicas with streaming engines")
        self._deepest = max((p.stages for p in programs), default=0)

    def run(
        self,
        frames: list[dict[str, Array]],
        host_segments: dict[str, bytes] | list[Segment] | None = None,
        on_output: OutputHook | None = None,
        order_seed: int | None = None,
        on_accumulator: AccumulatorHook | None = None,
    ) -> list[dict[str, Array]]:
        """Outputs of each frame, by ONNX name. frames: graph inputs by name, all in flight together.

        order_seed: None takes queue heads in a deterministic round robin; a number draws a random legal order.
        Raises MachineError on any violation of docs/machine.md.
        """
        host = self.run_host(frames, host_segments, on_output, order_seed, on_accumulator)
        return [host.result(f) for f in range(len(frames))]

    def run_host(
        self,
        frames: list[dict[str, Array]],
        host_segments: dict[str, bytes] | list[Segment] | None = None,
        on_output: OutputHook | None = None,
        order_seed: int | None = None,
        on_accumulator: AccumulatorHook | None = None,
    ) -> Host:
        """As `run`, but gives the host rank with every tensor that it saw."""
        if isinstance(host_segments, list):
            segments = host_segments
        else:
            segments = [Segment(name, model) for name, model in sorted((host_segments or {}).items())]
        per_replica = -(-len(frames) // self.replicas)
        self._iterations = per_replica + self._deepest if frames else 0
        channels = fifos(self.programs)
        try:
            host = Host(self.programs, channels, segments, frames, self._iterations)
        except Fault as fault:
            raise MachineError(fault.code, fault.what) from fault
        if self.streaming:
            return self._run_fabrics(host, channels, len(frames), on_output, order_seed)
        replica_of = self._replica_of_rank()
        self.makers = Makers()
        makers = self.makers if on_output else None
        cores = [
            Core(p.name, c, replica_of.get(c.rank, 0), self.replicas, len(frames), makers)
            for p in self.programs
            for c in p.cores
        ]
        agents: list[Agent] = []
        for core in cores:
            outputs = OutputMap(core.device, core.program, on_output) if on_output else None
            for queue in Queue:
                steps = decode(core, queue, channels, self._deepest, outputs, on_accumulator)
                agents.append(Agent(len(agents), core, queue, steps))
        self.counters = Counters(iterations=self._iterations)
        if frames:
            fabrics: Fabrics | None = None
            if self.mixed:
                from compiler.executor.stream.bridges import Fabrics

                fabrics = Fabrics(self.programs, channels, len(frames), self._iterations, on_output, order_seed)
            Run(agents, host, channels, self._iterations, order_seed, fabrics).loop()
            self._count(agents)
            if fabrics is not None:
                self._count_units(fabrics.runs, len(frames))
            self.counters.message_bytes = sum(f.sent_bytes for f in channels.values())
        return host

    def _run_fabrics(
        self, host: Host, channels: dict[int, Fifo], frames: int, on_output: OutputHook | None, order_seed: int | None
    ) -> Host:
        """The netlists instead of cores."""
        from compiler.executor.stream.run import run_fabrics

        runs = run_fabrics(self.programs, channels, host, frames, on_output, order_seed)
        self.counters = Counters(iterations=frames, message_bytes=sum(f.sent_bytes for f in channels.values()))
        self._count_units(runs, frames)
        return host

    def _count_units(self, runs: list[FabricRun], frames: int) -> None:
        """A unit counts as one instruction a frame."""
        for r in runs:
            self.counters.macs += r.macs
            for unit in r.units:
                self.counters.instructions[unit.ins.op] = self.counters.instructions.get(unit.ins.op, 0) + unit.frames

    def _replica_of_rank(self) -> dict[int, int]:
        """Ranks joined by channels belong together; the host's message table says which replica they are."""
        if self.replicas == 1:
            return {}
        neighbours: dict[int, list[int]] = {}
        channels = {ch.id: ch for p in self.programs for ch in p.channels}
        for ch in channels.values():
            if HOST_RANK not in (ch.source_rank, ch.target_rank):
                neighbours.setdefault(ch.source_rank, []).append(ch.target_rank)
                neighbours.setdefault(ch.target_rank, []).append(ch.source_rank)
        out: dict[int, int] = {}
        for message in (m for p in self.programs for m in p.host):
            channel = channels.get(message.channel)
            if channel is None:
                continue
            todo = [channel.target_rank if message.to_core else channel.source_rank]
            while todo:
                rank = todo.pop()
                if out.get(rank, message.replica) != message.replica:
                    raise MachineError(ILLEGAL, f"rank {rank} belongs to replicas {out[rank]} and {message.replica}")
                if rank not in out:
                    out[rank] = message.replica
                    todo += neighbours.get(rank, [])
        return out

    def _count(self, agents: list[Agent]) -> None:
        """Executed instructions and MACs, counted from the program: each has its effect once a frame (or once)."""
        for agent in agents:
            for ins in agent.core.program.queues.get(agent.queue, []):
                times = min(agent.frames, 1) if ins.flags & Flag.ONCE else agent.frames
                self.counters.instructions[ins.op] = self.counters.instructions.get(ins.op, 0) + times
                if ins.op == "MAC":
                    f = ins.fields
                    self.counters.macs += times * f["m"] * f["n"] * f["kh"] * f["kw"] * f["oh"] * f["ow"]
