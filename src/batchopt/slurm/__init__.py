"""What batchopt knows of SLURM: its commands, its words, and jobs that left no record.

Imports `request` and `record`. `machine`, `run`, `sweeps` and `doctor` import it.
"""
