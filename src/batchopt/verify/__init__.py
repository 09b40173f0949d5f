"""`python -m batchopt.verify`: proves that the presets are one training.

Imports `training`, `step`, `data`. Nothing imports it: a sweep starts it as a process.
"""
