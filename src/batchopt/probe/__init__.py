"""`python -m batchopt.probe`: what each batch size needs on this device; and `batch=auto`.

Imports `run` and `training`. `sweeps` imports it.
"""
