"""Tocsin delivers every event to every channel that wants it."""

__version__ = "0.1.0"
