"""The idea itself: the examples of one optimizer step -> micro-batches -> the exact loss.

Belongs here: planning micro-batches, padding them, the loss and its gradient, the noise scale.
Imports `request` (the batch plan and the enums of the config). `evaluation`, `training`, `probe`
and `verify` import it, and so do trainers of other people.
"""
