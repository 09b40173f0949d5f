"""Runs -> what follows from their numbers: comparisons, statistics, decisions.

Imports `reading`. No words and no drawing here: `facts` is what the rooms above get.
"""
