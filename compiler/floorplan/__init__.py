"""Placing kernels on the slots (dies) of devices: fixed kernels at least cost, or folded and placed for throughput.

`problem` reads, `solve` answers with a proven bound, `check` judges an answer and knows no solver.
"""
