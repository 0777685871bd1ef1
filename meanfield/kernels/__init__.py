"""Numba kernels: arrays and integers in, overwritten arguments first; no validation, no defaults."""
