"""FINN's files as options of the partitioner, and the names that FINN gives to what it makes of a graph.

`names` says which hardware nodes FINN makes of each layer; `read` takes folding configurations and floorplans apart.
The files are written by `compiler.export.finn`.
"""
