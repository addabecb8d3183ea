"""Every metric by name. `docs/metrics.md` lists the same, and a test compares the two.

No label names an organization, project, channel, host or event type: metrics are read by more
people than the data is, and each value of a label is a time series for ever.
"""

from msgspec import Struct

ATTEMPT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
WAIT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0)
REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
SIZES = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2000.0)

FAMILIES: list["Family"] = []
"""All of them, in the order in which they are written down."""


class Family(Struct, frozen=True):
    """A metric: its kind is counter, gauge or histogram; `bounds` are those of a histogram."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


def _counter(name: str, help: str, *labels: str) -> Family:
    return _known(Family(f"tocsin_{name}_total", "counter", help, labels))


def _gauge(name: str, help: str, *labels: str) -> Family:
    return _known(Family(f"tocsin_{name}", "gauge", help, labels))


def _histogram(name: str, help: str, bounds: tuple[float, ...], *labels: str) -> Family:
    return _known(Family(f"tocsin_{name}", "histogram", help, labels, bounds))


def _known(family: Family) -> Family:
    FAMILIES.append(family)
    return family


BUILD_INFO = _gauge("build_info", "Always 1; the labels say what runs.", "version", "store")
READY = _gauge("ready", "1 while /readyz answers 200.")

EVENTS_ACCEPTED = _counter("events_accepted", "Events stored.")
EVENTS_DUPLICATE = _counter("events_duplicate", "Publishes answered with the first of their key.")
EVENTS_UNMATCHED = _counter("events_unmatched", "Events stored that no channel wanted.")
EVENTS_REFUSED = _counter(
    "events_refused", "Publishes refused; a batch refused as a whole counts once.", "code"
)
PUBLISHES_WAITING = _gauge("publishes_waiting", "Weight of what waits for a transaction.")
PUBLISH_BATCH = _histogram("publish_batch_events", "Events of one transaction.", SIZES)

DELIVERIES_CREATED = _counter("deliveries_created", "Deliveries stored with accepted events.")
DELIVERIES_FINISHED = _counter(
    "deliveries_finished", "Deliveries ended by an attempt of this node.", "outcome"
)
ATTEMPTS = _counter("attempts", "Attempts made.", "channel_type", "outcome", "reason")
ATTEMPT_SECONDS_TAKEN = _histogram(
    "attempt_duration_seconds", "From start to outcome.", ATTEMPT_SECONDS, "channel_type"
)
FIRST_ATTEMPT_SECONDS = _histogram(
    "first_attempt_delay_seconds", "From an event's acceptance to a first attempt.", WAIT_SECONDS
)
ATTEMPTS_SUPERSEDED = _counter("attempts_superseded", "Attempts whose claim no longer stood.")
CHANNELS_DISABLED = _counter("channels_disabled", "Channels that Tocsin itself has disabled.")
BREAKERS_OPENED = _counter("breakers_opened", "Times that a channel's breaker has opened.")

PURGED = _counter("purged", "Rows that this node removed past their retention.", "table")

LANES = _gauge("lanes", "Channels of which this node holds or lately held deliveries.")
LANES_SLOW = _gauge("lanes_slow", "Those whose targets take over a second.")
BREAKERS_OPEN = _gauge("breakers_open", "Those whose breaker is open.")
DELIVERIES_HELD = _gauge("deliveries_held", "Deliveries claimed by this node and not settled.")
DELIVERIES_HELD_BYTES = _gauge("deliveries_held_bytes", "Bytes of their payloads.")
ATTEMPTS_IN_FLIGHT = _gauge("attempts_in_flight", "Attempts under way.")
SETTLES_WAITING = _gauge("settles_waiting", "Finished attempts that are not recorded yet.")
SETTLE_BATCH = _histogram("settle_batch_deliveries", "Attempts recorded together.", SIZES)
RECORDING = _gauge("recording", "0 while attempts can't be recorded and sending stands still.")

TARGET_CONNECTIONS_OPEN = _gauge("target_connections_open", "Connections to targets.")
TARGET_CONNECTIONS_IDLE = _gauge("target_connections_idle", "Those that wait for a request.")
NAME_LOOKUPS = _counter("name_lookups", "Names of targets looked up.", "outcome")

HTTP_REQUESTS = _counter("http_requests", "Requests answered.", "dialect", "method", "status")
HTTP_SECONDS = _histogram(
    "http_request_duration_seconds", "From head to reply.", REQUEST_SECONDS, "dialect", "method"
)
HTTP_CONNECTIONS = _gauge("http_connections_open", "Connections of clients.")
HTTP_REFUSED = _counter("http_refused", "Requests and connections cut off by a bound.", "code")

STORE_QUEUE = _gauge("store_queue_operations", "Operations that wait for the writer.")
STORE_TRANSACTIONS = _counter("store_transactions", "Write transactions.", "outcome")
STORE_OPERATIONS = _histogram(
    "store_transaction_operations", "Operations joined in one transaction.", SIZES
)
STORE_SECONDS = _histogram(
    "store_transaction_seconds", "A write transaction with its commit.", COMMIT_SECONDS
)
STORE_COMMIT_SECONDS = _histogram("store_commit_seconds", "The commit alone.", COMMIT_SECONDS)
STORE_BYTES = _gauge("store_database_bytes", "Size of the SQLite file.")
STORE_WAL_BYTES = _gauge("store_wal_bytes", "Size of its write-ahead log.")
STORE_FREE_BYTES = _gauge("store_disk_free_bytes", "Free bytes where it is.")

CHORE_AGE_SECONDS = _gauge(
    "chore_success_age_seconds", "Since a chore went well last, or since the start.", "operation"
)
CHORE_FAILURES = _counter("chore_failures", "Rounds of a chore that failed.", "operation")
