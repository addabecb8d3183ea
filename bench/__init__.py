"""How fast Tocsin is, in the same run as a bare loop of POSTs that stores nothing."""
