"""One function a constraint family: numbers in, rows out; solvers, bounds and infeasibility reports read them alike."""
