"""The schema, once, for both databases.

Control plane: organizations, projects, keys, users with members, sessions and links, channels,
jobs, audit. Data plane (hot): lanes,
events, deliveries, attempts, idempotency; no foreign keys, few indexes, written by hand per driver.
Times are integer milliseconds; ids are 24 lower-case hex characters, compared byte by byte.
"""

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, Table, Text

SCHEMA_VERSION = 2
"""The one number that start compares; raised by every migration."""

metadata = sa.MetaData()

Id = Text().with_variant(Text(collation="C"), "postgresql")
Ms = BigInteger

NODE_NUMBER_MAX = 2**24 - 1

# On PostgreSQL what is updated all the time keeps room in its pages, and is cleaned by count: a
# share of the table would be too early for a small one and too late for a large one. Events,
# deliveries and attempts are partitioned by the day their id was made (`postgres/partitions.py`).
HOT_ROWS = {
    "fillfactor": 50,
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 1000,
    "autovacuum_vacuum_cost_delay": 0,
}

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

nodes = Table(
    "nodes",
    metadata,
    # Never used twice: the number is part of every id the node makes.
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("started_at", Ms, nullable=False),
    # PostgreSQL: on the database's clock; whoever finds it passed may free what the node holds.
    Column("lease_until_ms", Ms, nullable=False),
    postgresql_with=HOT_ROWS,
)
# PostgreSQL only; SQLite has one node at a time and takes the next number itself.
node_numbers = sa.Sequence("node_numbers", maxvalue=NODE_NUMBER_MAX, metadata=metadata)

organizations = Table(
    "organizations",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Text, nullable=False),
    Column("slug", Text, nullable=False),
    # Rises with every change to routes or key rights; publishing reads it first.
    Column("version", BigInteger, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
    Column("deleted_at", Ms),
)
Index(
    "organizations_slug",
    organizations.c.slug,
    unique=True,
    sqlite_where=organizations.c.deleted_at.is_(None),
    postgresql_where=organizations.c.deleted_at.is_(None),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Id, primary_key=True),
    Column("organization_id", Id, nullable=False),
    Column("name", Text, nullable=False),
    Column("slug", Text, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
    Column("deleted_at", Ms),
)
Index(
    "projects_slug",
    projects.c.organization_id,
    projects.c.slug,
    unique=True,
    sqlite_where=projects.c.deleted_at.is_(None),
    postgresql_where=projects.c.deleted_at.is_(None),
)
Index("projects_organization", projects.c.organization_id, projects.c.id)

keys = Table(
    "keys",
    metadata,
    Column("id", Id, primary_key=True),
    Column("organization_id", Id, nullable=False),
    Column("project_id", Id),
    Column("name", Text, nullable=False),
    Column("role", Text),
    Column("permissions", Text, nullable=False),  # JSON array of grants
    Column("scopes", Text),
    Column("token_hash", Text, nullable=False),
    Column("token_prefix", Text, nullable=False),
    Column("expires_at", Ms),
    Column("last_used_at", Ms),
    Column("request_count", BigInteger, nullable=False, server_default="0"),
    Column("created_at", Ms, nullable=False),
    Column("revoked_at", Ms),
)
Index("keys_token", keys.c.token_hash, unique=True)
Index("keys_organization", keys.c.organization_id, keys.c.id)

users = Table(
    "users",
    metadata,
    Column("id", Id, primary_key=True),
    Column("email", Text, nullable=False),  # lower-case
    Column("name", Text, nullable=False),
    Column("password_hash", Text),  # null: no password yet, nobody signs in
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
)
Index("users_email", users.c.email, unique=True)

members = Table(
    "members",
    metadata,
    Column("id", Id, primary_key=True),
    Column("organization_id", Id, nullable=False),
    Column("user_id", Id, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
)
Index("members_organization", members.c.organization_id, members.c.id)
Index("members_user", members.c.user_id, members.c.organization_id, unique=True)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("token_hash", Text, nullable=False),
    Column("user_id", Id, nullable=False),
    # What the person has chosen to work on; the role is read from `members` each time.
    Column("organization_id", Id),
    Column("project_id", Id),
    Column("address", Text),
    # The network that the address counts to: this person has signed in from there before.
    Column("bucket", Text, nullable=False),
    Column("user_agent", Text, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("seen_at", Ms, nullable=False),
    Column("ends_at", Ms, nullable=False),
    Column("expires_at", Ms, nullable=False),
)
Index("sessions_token", sessions.c.token_hash, unique=True)
Index("sessions_user", sessions.c.user_id, sessions.c.id)
Index("sessions_end", sessions.c.ends_at)

links = Table(
    "links",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("token_hash", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("user_id", Id),
    Column("organization_id", Id),
    Column("role", Text),
    Column("created_at", Ms, nullable=False),
    Column("expires_at", Ms, nullable=False),
)
Index("links_token", links.c.token_hash, unique=True)
Index("links_end", links.c.expires_at)

channels = Table(
    "channels",
    metadata,
    Column("id", Id, primary_key=True),
    Column("organization_id", Id, nullable=False),
    Column("project_id", Id),
    Column("type", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("event_types", Text, nullable=False),  # JSON array of patterns
    Column("filter", Text, nullable=False),  # JSON array of conditions
    Column("format", Text),
    Column("schedule", Text, nullable=False),  # JSON array of durations
    Column("timeout_ms", Integer, nullable=False),
    Column("rate_limit", Text),  # JSON object
    Column("max_in_flight", Integer),
    Column("ordered", Boolean, nullable=False),
    Column("breaker", Text),  # JSON object; null is off
    Column("enabled", Boolean, nullable=False),
    Column("disabled_reason", Text),
    Column("sealed", LargeBinary, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
    Column("deleted_at", Ms),
)
Index("channels_organization", channels.c.organization_id, channels.c.id)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("organization_id", Id, nullable=False),
    Column("kind", Text, nullable=False),
    Column("channel_id", Id),
    Column("status", Text, nullable=False),
    # Internal jobs carry out a delete or a cancelled backlog; they count against no quota.
    Column("internal", Boolean, nullable=False),
    Column("arguments", Text, nullable=False),  # JSON object
    Column("position", Text, nullable=False, server_default=""),
    Column("total", BigInteger),
    Column("done", BigInteger, nullable=False, server_default="0"),
    Column("created_at", Ms, nullable=False),
    Column("finished_at", Ms),
)
Index("jobs_organization", jobs.c.organization_id, jobs.c.id)
Index(
    "jobs_running",
    jobs.c.id,
    sqlite_where=jobs.c.status == "running",
    postgresql_where=jobs.c.status == "running",
)

audit = Table(
    "audit",
    metadata,
    Column("id", Id, primary_key=True),
    Column("organization_id", Id, nullable=False),
    Column("at", Ms, nullable=False),
    Column("actor_kind", Text, nullable=False),
    Column("actor_id", Text),
    Column("actor_name", Text, nullable=False),
    Column("dialect", Text, nullable=False),
    Column("address", Text),
    Column("action", Text, nullable=False),
    Column("target_kind", Text, nullable=False),
    Column("target_id", Text, nullable=False),
    Column("changes", Text, nullable=False),  # JSON object, without secrets
)
Index("audit_organization", audit.c.organization_id, audit.c.id)

lanes = Table(
    "lanes",
    metadata,
    Column("channel_id", Id, primary_key=True),
    Column("organization_id", Id, nullable=False),
    # null: open; 'disabled' or 'deleted': nothing is sent, whatever waits behind it.
    Column("parked", Text),
    # The moment the next free delivery may be claimed: null when parked or nothing is free,
    # never below blocked_until_ms.
    Column("next_due_ms", Ms),
    Column("blocked_until_ms", Ms, nullable=False, server_default="0"),
    # Free deliveries up to this id were dropped by a person (a durable job carries it out).
    Column("cancelled_through", Id),
    # Free deliveries due before this moment waited while the channel was disabled: they drain
    # slowly. All that waited then has an id up to `backlog_through`.
    Column("backlog_before_ms", Ms),
    Column("backlog_through", Id),
    Column("backlog_due_ms", Ms, nullable=False, server_default="0"),
    # null: closed; 'open': nothing but a probe is claimed, from breaker_until_ms on; 'probing': one
    # is under way (`breaker_probe`), and breaker_until_ms is its deadline. While it is not closed
    # blocked_until_ms is never below breaker_until_ms.
    Column("breaker_state", Text),
    Column("breaker_until_ms", Ms, nullable=False, server_default="0"),
    Column("breaker_probe", Id),
    # The different deliveries that failed in a row, by id, with a space between them.
    Column("breaker_streak", Text, nullable=False, server_default=""),
    # Of the channel: deliveries are numbered, and served by number, one at a time.
    Column("ordered", Boolean, nullable=False, server_default=sa.false()),
    # Deliveries made before it was ordered may still wait without a number: they go first.
    Column("unnumbered", Boolean, nullable=False, server_default=sa.false()),
    # Of the channel: ordered, or with a rate limit or cap of its own. Only `owner` claims from it.
    Column("exclusive", Boolean, nullable=False, server_default=sa.false()),
    Column("owner", Integer, nullable=False, server_default="0"),
    Column("last_seq", BigInteger, nullable=False, server_default="0"),
    # Copy of channels.version: an attempt made with older settings changes nothing here.
    Column("version", BigInteger, nullable=False),
    Column("last_sent_at", Ms),
    Column("error_count", BigInteger, nullable=False, server_default="0"),
    Column("last_error", Text),
    Column("failing_streak", Integer, nullable=False, server_default="0"),
    # Unused; nodes of the release before this schema write it during an upgrade.
    Column("failing_delivery", Id),
    Column("failing_since_ms", Ms),
    # The first different deliveries that failed in a row, by id, with a space between them.
    Column("failing_deliveries", Id),
    # It was told that the channel fails, and not yet that it has recovered.
    Column("failing_told", Boolean, nullable=False, server_default=sa.false()),
    sqlite_with_rowid=False,
    postgresql_with=HOT_ROWS,
)
Index(
    "lanes_due",
    lanes.c.next_due_ms,
    sqlite_where=lanes.c.next_due_ms.is_not(None),
    postgresql_where=lanes.c.next_due_ms.is_not(None),
)

events = Table(
    "events",
    metadata,
    Column("id", Id, primary_key=True),
    Column("organization_id", Id, nullable=False),
    Column("project_id", Id),
    Column("type", Text, nullable=False),
    Column("idempotency_key", Text),
    Column("occurred_at", Ms, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("deliveries", Integer, nullable=False),
    Column("unmatched", Text),
    # The large ones last: lists read the others without their overflow pages.
    Column("people", LargeBinary),
    Column("data", LargeBinary, nullable=False),
    postgresql_partition_by="RANGE (id)",
)
Index("events_organization", events.c.organization_id, events.c.id)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Id, primary_key=True),
    Column("event_id", Id, nullable=False),
    Column("organization_id", Id, nullable=False),
    Column("channel_id", Id, nullable=False),
    Column("project_id", Id),
    Column("event_type", Text, nullable=False),
    Column("origin", Text, nullable=False),
    # 'waiting' until final; a waiting one held by a node (node <> 0) reads as 'sending'.
    Column("status", Text, nullable=False),
    Column("due_ms", Ms, nullable=False),
    Column("node", Integer, nullable=False),
    # Rises with every claim; settle and release apply only where it still matches.
    Column("claim", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("attempt_count", Integer, nullable=False),
    # How often a claim was lost with its node after its send began or may have begun.
    Column("lost", Integer, nullable=False),
    Column("seq", BigInteger),
    Column("created_at", Ms, nullable=False),
    Column("finished_at", Ms),
    Column("last_status_code", Integer),
    Column("last_error", Text),
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (id)",
)
Index("deliveries_channel", deliveries.c.channel_id, deliveries.c.id)
Index("deliveries_organization", deliveries.c.organization_id, deliveries.c.id)
Index("deliveries_event", deliveries.c.event_id)
Index(
    "deliveries_open",
    deliveries.c.channel_id,
    deliveries.c.node,
    deliveries.c.due_ms,
    deliveries.c.id,
    sqlite_where=deliveries.c.status == "waiting",
    postgresql_where=deliveries.c.status == "waiting",
)
Index(
    "deliveries_ordered",
    deliveries.c.channel_id,
    deliveries.c.seq,
    sqlite_where=sa.and_(deliveries.c.status == "waiting", deliveries.c.seq.is_not(None)),
    postgresql_where=sa.and_(deliveries.c.status == "waiting", deliveries.c.seq.is_not(None)),
)

attempts = Table(
    "attempts",
    metadata,
    Column("delivery_id", Id, primary_key=True),
    Column("claim", Integer, primary_key=True, autoincrement=False),
    Column("organization_id", Id, nullable=False),
    Column("number", Integer, nullable=False),
    Column("started_at", Ms, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status_code", Integer),
    Column("error", Text),
    Column("response_body", Text),
    Column("superseded", Boolean, nullable=False),
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (delivery_id)",
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("organization_id", Id, primary_key=True),
    # '' where there is no project: a null would never conflict.
    Column("project_id", Id, primary_key=True),
    # 'api' for HTTP, else the id of the inlet that published.
    Column("source", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("event_id", Id, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("type", Text, nullable=False),
    Column("deliveries", Integer, nullable=False),
    Column("unmatched", Text),
    Column("created_at", Ms, nullable=False),
    sqlite_with_rowid=False,
)
Index("idempotency_age", idempotency.c.created_at)
