"""Streaming engines executed: every unit as a function of whole frames, words never reordered."""
