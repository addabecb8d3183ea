"""The inbound edge: one HTTP server, three dialects that translate to the same service calls."""
