"""The plan checker's own netlists: what docs/streaming.md says stands on every die, built from plan and model alone.

`pieces` reads who computes what, `matrix` and `simple` make the units of a layer, `netlist` joins them, `sums` adds up
resources, wires, bits and times, `timing` plays a frame. Nothing of the planner's assembly (`compiler.ops.stream`) is
used: what a unit costs and when it fires are the machine's own (`compiler.isa.stream`).
"""
