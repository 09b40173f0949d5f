"""`python -m batchopt.probe` measures each batch size on this device; `batch=auto` chooses by it.

Imports `run` and `training`. `sweeps` imports it.
"""
