"""batchopt: which per-device batch size and how much gradient accumulation?"""

__version__ = "0.1.0"
