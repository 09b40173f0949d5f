"""What runs and sweeps leave on disk: file names, typed documents, metrics, writers and readers.

Imports `errors` only. Every folder may import it, and `analysis` imports nothing else of batchopt
but `errors`.
"""
