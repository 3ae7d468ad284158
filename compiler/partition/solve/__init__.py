"""The solvers: contiguous sweep, CP-SAT placement, latency by dynamic programming: a Problem in, an Allocation out."""
