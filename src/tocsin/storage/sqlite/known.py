"""What the writer knows without asking: it is the only one who writes.

Versions of organizations, and lanes that are open with nothing free behind them. Everything is
forgotten when a transaction is rolled back or a control change was made, so that what is known is
always what is committed or about to be.
"""

from tocsin.domain.model import ChannelId

ENTRIES_MAX = 50_000


class Known:
    """The writer's memory; used in its thread only."""

    __slots__ = ("open_lanes", "versions")

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        self.open_lanes: set[ChannelId] = set()

    def forget(self) -> None:
        """Know nothing any more."""
        self.versions.clear()
        self.open_lanes.clear()

    def bound(self) -> None:
        """Keep the memory small; called now and then."""
        if len(self.versions) > ENTRIES_MAX or len(self.open_lanes) > ENTRIES_MAX:
            self.forget()
