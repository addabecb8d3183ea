"""Tocsin's own dialect, under `/api/v1`."""
