"""SLURM: asking it about jobs, checking a sweep before it is submitted, and missing records.

Imports `request` and `record`. `machine`, `run`, `sweeps` and `doctor` import it.
"""
