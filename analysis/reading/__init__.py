"""Files -> one `Run` for every planned run. Imports `batchopt.record` and `batchopt.errors`."""
