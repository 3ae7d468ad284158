"""The solvers: contiguous sweep, CP-SAT placement, latency by dynamic programming. All take a Problem, give an Allocation."""
