"""Use cases: what the edges may ask for. Permissions and audit live here, for every dialect."""
