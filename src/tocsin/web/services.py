"""What the edge needs from below, as `app` hands it over."""

from typing import Protocol

from tocsin.clock import Clock
from tocsin.config import Settings
from tocsin.service.alerts import AlertRules
from tocsin.service.backup import Backups
from tocsin.service.channels import Channels
from tocsin.service.credentials import Credentials
from tocsin.service.directory import Directory
from tocsin.service.issues import Issues
from tocsin.service.keys import Keys
from tocsin.service.links import Links
from tocsin.service.log import Log
from tocsin.service.master_key import MasterKey
from tocsin.service.members import Members
from tocsin.service.people import People
from tocsin.service.publish import Publisher
from tocsin.service.sessions import Sessions
from tocsin.service.slack import SlackSetup
from tocsin.service.statistics import Statistics
from tocsin.telemetry.exposition import Metrics


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
    def alert_rules(self) -> AlertRules: ...
    @property
    def issues(self) -> Issues: ...
    @property
    def slack(self) -> SlackSetup: ...
    @property
    def publisher(self) -> Publisher: ...
    @property
    def log(self) -> Log: ...
    @property
    def statistics(self) -> Statistics: ...
    @property
    def credentials(self) -> Credentials: ...
    @property
    def sessions(self) -> Sessions: ...
    @property
    def people(self) -> People: ...
    @property
    def links(self) -> Links: ...
    @property
    def members(self) -> Members: ...
    @property
    def backups(self) -> Backups: ...
    @property
    def master_key(self) -> MasterKey: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def health(self) -> Health: ...
    @property
    def metrics(self) -> Metrics: ...
