"""A sweep as a whole: read its command, plan it, start it, show it, and read its results.

Imports everything below. Only the commands (`train`, `resume`, `status`) and Hydra's plugins import
it.
"""
