"""Stores: one protocol (`base.py`), SQLite as the embedded default."""
