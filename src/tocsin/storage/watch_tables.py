"""The tables by which Tocsin watches its own deliveries: statistics, alert rules, issues, and what
it has to tell; and which node does what only one may do. Both databases, as in `tables.py`."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table, Text

from tocsin.storage.tables import HOT_ROWS, Id, Ms, metadata

LATENCY_BUCKETS = 48

duties = Table(
    "duties",
    metadata,
    # What only one node does at a time; on the database's clock.
    Column("name", Text, primary_key=True),
    Column("node", Integer, nullable=False),
    Column("until_ms", Ms, nullable=False),
    postgresql_with=HOT_ROWS,
)

outbox = Table(
    "outbox",
    metadata,
    # What was decided in a transaction and is still to be published, once; the id is its key.
    Column("id", Id, primary_key=True),
    Column("organization_id", Id, nullable=False),
    # 'alert', or the operational event's name: 'channel.failing', 'channel.recovered', …
    Column("kind", Text, nullable=False),
    Column("channel_id", Id),
    Column("at", Ms, nullable=False),
    Column("body", Text, nullable=False),  # JSON object, by kind
    postgresql_with=HOT_ROWS,
)

channel_minutes = Table(
    "channel_minutes",
    metadata,
    Column("channel_id", Id, primary_key=True),
    # Minutes since 1970, UTC.
    Column("minute", Integer, primary_key=True, autoincrement=False),
    # Each node has its own rows, so that no two wait for each other.
    Column("node", Integer, primary_key=True, autoincrement=False),
    Column("organization_id", Id, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("delivered", BigInteger, nullable=False),
    Column("exhausted", BigInteger, nullable=False),
    *(
        Column(f"l{at}", Integer, nullable=False, server_default="0")
        for at in range(LATENCY_BUCKETS)
    ),
    sqlite_with_rowid=False,
    postgresql_with=HOT_ROWS,
)
Index("channel_minutes_minute", channel_minutes.c.minute)

project_minutes = Table(
    "project_minutes",
    metadata,
    Column("organization_id", Id, primary_key=True),
    # '' where the event has no project.
    Column("project_id", Id, primary_key=True),
    Column("minute", Integer, primary_key=True, autoincrement=False),
    Column("node", Integer, primary_key=True, autoincrement=False),
    Column("accepted", BigInteger, nullable=False),
    Column("unmatched", BigInteger, nullable=False),
    sqlite_with_rowid=False,
    postgresql_with=HOT_ROWS,
)
Index("project_minutes_minute", project_minutes.c.minute)


def _older_of_channels(name: str) -> Table:
    """What minutes are moved to when they are old; `minute` is the first one of hour or day."""
    table = Table(
        name,
        metadata,
        Column("channel_id", Id, primary_key=True),
        Column("minute", Integer, primary_key=True, autoincrement=False),
        Column("organization_id", Id, nullable=False),
        *(
            Column(count, BigInteger, nullable=False)
            for count in ("attempts", "failed", "delivered", "exhausted")
        ),
        *(
            Column(f"l{at}", BigInteger, nullable=False, server_default="0")
            for at in range(LATENCY_BUCKETS)
        ),
        sqlite_with_rowid=False,
    )
    Index(f"{name}_minute", table.c.minute)
    Index(f"{name}_organization", table.c.organization_id)
    return table


def _older_of_projects(name: str) -> Table:
    table = Table(
        name,
        metadata,
        Column("organization_id", Id, primary_key=True),
        Column("project_id", Id, primary_key=True),
        Column("minute", Integer, primary_key=True, autoincrement=False),
        Column("accepted", BigInteger, nullable=False),
        Column("unmatched", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    Index(f"{name}_minute", table.c.minute)
    return table


channel_hours = _older_of_channels("channel_hours")
channel_days = _older_of_channels("channel_days")
project_hours = _older_of_projects("project_hours")
project_days = _older_of_projects("project_days")

served_minutes = Table(
    "served_minutes",
    metadata,
    # A node that accepts events was there during all of this minute.
    Column("minute", Integer, primary_key=True, autoincrement=False),
    Column("node", Integer, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

issues = Table(
    "issues",
    metadata,
    Column("id", Id, primary_key=True),
    Column("organization_id", Id, nullable=False),
    Column("project_id", Id),
    Column("channel_id", Id, nullable=False),
    # The kind of error; one issue per channel and kind.
    Column("fingerprint", Text, nullable=False),
    Column("title", Text, nullable=False),
    # 'open', 'acknowledged' or 'resolved'
    Column("status", Text, nullable=False),
    Column("snoozed_until", Ms),
    Column("occurrence_count", BigInteger, nullable=False),
    Column("first_seen_at", Ms, nullable=False),
    Column("last_seen_at", Ms, nullable=False),
    # When it was opened last: a resolved issue that comes back is opened again.
    Column("opened_at", Ms, nullable=False),
    Column("resolved_at", Ms),
    Column("last_delivery_id", Id),
    Column("last_attempt_number", Integer),
    Column("last_event_id", Id),
    Column("last_error", Text),
    Column("last_status_code", Integer),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
)
Index("issues_fingerprint", issues.c.channel_id, issues.c.fingerprint, unique=True)
Index("issues_organization", issues.c.organization_id, issues.c.id)
Index("issues_opened", issues.c.opened_at)

alert_rules = Table(
    "alert_rules",
    metadata,
    Column("id", Id, primary_key=True),
    Column("organization_id", Id, nullable=False),
    Column("project_id", Id, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("rule_type", Text, nullable=False),
    Column("rule_config", Text, nullable=False),  # JSON object
    Column("source_id", Id),
    Column("destination_id", Id),
    Column("channel_ids", Text, nullable=False),  # JSON array
    Column("cooldown_minutes", Integer, nullable=False),
    Column("enabled", Boolean, nullable=False),
    # Rises with every change and every trigger: a decision made on an older one is void.
    Column("version", BigInteger, nullable=False),
    # The last minute of which a decision was noted; of issues, up to which they were told.
    Column("evaluated_minute", Integer, nullable=False, server_default="0"),
    Column("firing_since", Ms),
    # The last minute in which its condition held; 30 minutes later it is resolved.
    Column("last_true_at", Ms),
    Column("last_triggered_at", Ms),
    Column("trigger_count", BigInteger, nullable=False, server_default="0"),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
)
Index("alert_rules_organization", alert_rules.c.organization_id, alert_rules.c.id)

alert_history = Table(
    "alert_history",
    metadata,
    Column("id", Id, primary_key=True),
    Column("organization_id", Id, nullable=False),
    Column("project_id", Id, nullable=False),
    Column("alert_rule_id", Id, nullable=False),
    Column("trigger_reason", Text, nullable=False),
    Column("trigger_data", Text, nullable=False),  # JSON object
    Column("channels_notified", Text, nullable=False),  # JSON array
    Column("created_at", Ms, nullable=False),
)
Index("alert_history_rule", alert_history.c.alert_rule_id, alert_history.c.id)
