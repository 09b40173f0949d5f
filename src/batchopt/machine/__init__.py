"""What a run runs on: GPUs and their leases, memory of processes, cgroups, versions.

Belongs here: every question to the operating system or the driver. Imports `slurm`, `request`,
`record`. `run`, `training`, `sweeps` and `doctor` import it. No torch.
"""
