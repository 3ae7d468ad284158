"""Layers as streaming engines: which folds are legal, the units of a layer, and the netlist of a whole plan."""
