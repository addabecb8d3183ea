"""`tocsin serve` whose lease lasts ten seconds: what follows its end needs no minute to be seen."""

from tocsin.cli import main
from tocsin.storage.postgres import nodes

LEASE_SECONDS = 10.0
TIMEOUT_SECONDS = 2
"""Of a channel's attempts: with five seconds to spare a send has three to wait for a renewal."""

if __name__ == "__main__":
    nodes.LEASE_MS = int(LEASE_SECONDS * 1000)
    nodes.BEAT_SECONDS = 1.0
    main()
