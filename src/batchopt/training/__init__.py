"""The process that trains: the only side with torch.

Belongs here: the worker, the model, the Trainer with exact steps, checkpoints, what a run records
of itself. Imports `evaluation`, `step`, `data`, `machine`, `request`, `record`; never `run`.
"""
