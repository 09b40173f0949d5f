"""Reads the runs of one or more sweeps and says what follows from their numbers.

The straight line: files -> runs (read) -> one row a run (frame) -> decisions (findings) ->
figures, report. It depends on the files that a run leaves and on nothing else of batchopt.
"""
