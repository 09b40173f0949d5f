"""Writes a folder for an experiment of somebody's own: `folder/` holds its files.

Its conf/ adds choices to those of batchopt, and its Makefile has the commands.
"""
