"""`python -m batchopt.doctor`: what this machine has, and what will not work here.

Imports `machine`, `slurm`, `training.trackers`. Nothing imports it.
"""
