"""Supervises one run from outside the training process: start, measure, judge, record.

Imports `machine`, `slurm`, `request` and `record`, and no torch. `run` and `training` do not import
one another: they share files and messages.
"""
