"""The idea itself: the examples of one optimizer step -> micro-batches -> the exact loss.

Belongs here: planning micro-batches, padding them, the loss and its gradient, the noise scale.
Imports `request` (the batch plan and the config's enums). `evaluation`, `training` and `verify`
import it; so do other people's trainers.
"""
