"""One file a version, named by its number and what it brings."""
