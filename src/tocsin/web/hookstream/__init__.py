"""The hookstream dialect, under `/v1`."""
