"""Divisors from the units of the files (bytes, seconds, joules) to those of a reader."""

BYTES_PER_GIB = 2**30
SECONDS_PER_MINUTE = 60
JOULES_PER_WH = 3600
