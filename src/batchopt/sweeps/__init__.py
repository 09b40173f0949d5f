"""A sweep as a whole: plan it, start it, show it, and read what came of it.

Imports everything below. Only the commands (`train`, `resume`, `status`) and Hydra's plugins import
it.
"""
