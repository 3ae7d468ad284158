"""Executors: the whole-tensor golden run of a graph, and the machine that runs the binaries of all devices.

The machine knows docs/machine.md, the instruction table and NumPy, and nothing of how programs are made;
`verify` holds its integers against ONNX Runtime, tensor by tensor; `run` gives users their outputs.
"""
