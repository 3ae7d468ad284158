"""The streaming style: fold and die of every layer decided together, FIFO depths from the timed netlist, the Plan."""
