"""Values and rules: no I/O, no clock, no randomness, no third party but msgspec."""
