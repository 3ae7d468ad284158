"""The operators as the machine runs them: what a layer may be split into, what a box needs, what it costs, its tiles.

One module an operator family. `task_cost` and `task_timeline` price a task without lowering it to addresses;
`lower` writes its instructions, all but tokens, stages and ring bases, which are the scheduler's.
"""

from compiler.ops.base import Constants, Proto, Step, Task, TaskTimeline, Tile, View, dense_view
from compiler.ops.registry import (
    Cut,
    Splits,
    Stored,
    TaskCost,
    input_boxes,
    likely_stored,
    lower,
    partial_name,
    resident_budget_bytes,
    resident_bytes,
    shared_blocks,
    splits,
    tab_slot_bytes,
    task_cost,
    task_timeline,
    wgt_slot_bytes,
)
from compiler.ops.shares import input_share_name, input_share_of, share_bounds, share_name, share_of

__all__ = [
    "Constants",
    "Cut",
    "Proto",
    "Splits",
    "Step",
    "Stored",
    "Task",
    "TaskCost",
    "TaskTimeline",
    "Tile",
    "View",
    "dense_view",
    "input_boxes",
    "input_share_name",
    "input_share_of",
    "likely_stored",
    "lower",
    "partial_name",
    "resident_budget_bytes",
    "resident_bytes",
    "share_bounds",
    "share_name",
    "share_of",
    "shared_blocks",
    "splits",
    "tab_slot_bytes",
    "task_cost",
    "task_timeline",
    "wgt_slot_bytes",
]
