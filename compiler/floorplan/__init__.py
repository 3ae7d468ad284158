"""Placing kernels on the slots (dies) of devices: fixed kernels at least cost, or fold and place for the least interval.

`problem` reads, `solve` answers with a proven bound, `check` judges an answer and knows no solver.
"""
