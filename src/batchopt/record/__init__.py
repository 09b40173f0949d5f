"""The contract with everybody who reads a run: files, statuses, metrics, readers.

Belongs here: the names of files and how they are written whole, the typed record, the metrics, the
one reader. Imports `errors` alone. Every folder may import it, and `analysis` imports nothing else.
"""
