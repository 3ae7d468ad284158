"""Event-driven timing over the instructions of all devices: interval, latency, layers, stalls, utilisation, trace.

Plays the same words on the same queues as the executor, with primitive durations and shared banks and links.
"""

from compiler.simulator.host import DEFAULT_SEGMENT_PS, HostTask, host_tasks
from compiler.simulator.result import QueueTime, SimResult, TaskTime, Utilisation
from compiler.simulator.run import simulate, trace

__all__ = [
    "DEFAULT_SEGMENT_PS",
    "HostTask",
    "QueueTime",
    "SimResult",
    "TaskTime",
    "Utilisation",
    "host_tasks",
    "simulate",
    "trace",
]
