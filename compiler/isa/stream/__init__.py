"""Streaming engines in the binary: the netlist's instruction table, words, sections, ports and rates, and its checker.

A *fabric* is all that one device holds of streaming engines: one netlist over its dies (docs/streaming.md).
"""
