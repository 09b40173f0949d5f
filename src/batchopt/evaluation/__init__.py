"""Generates summaries and scores them.

Belongs here: generation, ROUGE and its tokenizers, the process that scores. Imports `data` and
`step`. `training`, `probe` and `verify` import it.
"""
