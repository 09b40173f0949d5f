"""Sees one run through, from outside the process that trains: start, measure, judge, record.

Belongs here: the supervisor, its child process, what is measured from outside. Imports `machine`,
`slurm`, `request`, `record`; never `training`: files and messages connect the two. No torch.
"""
