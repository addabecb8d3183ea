"""What the edge needs from below, as `app` hands it over."""

from typing import Protocol

from tocsin.clock import Clock
from tocsin.config import Settings
from tocsin.service.channels import Channels
from tocsin.service.credentials import Credentials
from tocsin.service.directory import Directory
from tocsin.service.keys import Keys
from tocsin.service.log import Log
from tocsin.service.publish import Publisher
from tocsin.service.slack import SlackSetup


class Health(Protocol):
    """Whether this process can do its work."""

    def ready(self) -> bool:
        """The database is reachable, its schema current, and every part alive; never blocks."""
        ...


class Services(Protocol):
    """The use cases and what they share; each attribute is set before the server starts."""

    @property
    def directory(self) -> Directory: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def channels(self) -> Channels: ...
    @property
    def slack(self) -> SlackSetup: ...
    @property
    def publisher(self) -> Publisher: ...
    @property
    def log(self) -> Log: ...
    @property
    def credentials(self) -> Credentials: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def health(self) -> Health: ...
