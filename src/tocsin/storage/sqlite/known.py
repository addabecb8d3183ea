"""What the writer knows without asking: it is the only one who writes.

Versions of organizations, lanes that are open with nothing free behind them, and lanes of which
nobody was told that they fail. Everything is forgotten when a transaction is rolled back or a
control change was made, so that what is known is always what is committed or about to be.
"""

from tocsin.domain.model import ChannelId

ENTRIES_MAX = 50_000


class Known:
    """The writer's memory; used in its thread only."""

    __slots__ = ("open_lanes", "sound", "versions")

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        self.open_lanes: set[ChannelId] = set()
        self.sound: set[ChannelId] = set()

    def forget(self) -> None:
        """Know nothing any more."""
        self.versions.clear()
        self.open_lanes.clear()
        self.sound.clear()

    def bound(self) -> None:
        """Keep the memory small; called now and then."""
        if max(len(self.versions), len(self.open_lanes), len(self.sound)) > ENTRIES_MAX:
            self.forget()
