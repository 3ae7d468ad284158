"""Plan -> tile programs: buffers, tiles, tokens and transfers of every core, in one global order.

`schedule` is the whole way; it decides nothing that the plan has decided.
"""

from compiler.schedule.program import engine_spec, schedule

__all__ = ["engine_spec", "schedule"]
