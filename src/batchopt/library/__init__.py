"""What other people's training scripts call: find_batch, and exact Trainers.

Belongs here: measuring batch sizes on a model that is already in a process, and what composes with
the Trainer of transformers. Imports `probe` and below; nothing imports it. `batchopt/__init__.py`
has its public names.
"""
