"""Faults committed in real child processes: `make test-faults`.

`endings` provokes every ending of a run and writes docs/endings.md; `storm` kills at random.
"""
