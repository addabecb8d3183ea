"""The first schema: all tables of both planes. Why they are so stands in `storage/tables.py`."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from tocsin.storage.control.schema import set_version

revision = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

Id = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
Ms = sa.BigInteger()

HOT_ROWS = {
    "fillfactor": 50,
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 1000,
    "autovacuum_vacuum_cost_delay": 0,
}


def upgrade() -> None:
    """Create everything, in the order of `tables.py`."""
    _meta()
    _nodes()
    _organizations()
    _projects()
    _keys()
    _people()
    _sessions()
    _channels()
    _jobs()
    _audit()
    _lanes()
    _events()
    _deliveries()
    _attempts()
    _idempotency()
    set_version(op.get_bind(), int(revision))


def _meta() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )


def _nodes() -> None:
    op.create_table(
        "nodes",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("started_at", Ms, nullable=False),
        sa.Column("lease_until_ms", Ms, nullable=False),
        sa.PrimaryKeyConstraint("number"),
        postgresql_with=HOT_ROWS,
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.schema.CreateSequence(sa.Sequence("node_numbers", maxvalue=2**24 - 1)))


def _organizations() -> None:
    op.create_table(
        "organizations",
        sa.Column("id", Id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("version", Ms, nullable=False),
        sa.Column("created_at", Ms, nullable=False),
        sa.Column("updated_at", Ms, nullable=False),
        sa.Column("deleted_at", Ms),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "organizations_slug",
        "organizations",
        ["slug"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )


def _projects() -> None:
    op.create_table(
        "projects",
        sa.Column("id", Id, nullable=False),
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("created_at", Ms, nullable=False),
        sa.Column("updated_at", Ms, nullable=False),
        sa.Column("deleted_at", Ms),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("projects_organization", "projects", ["organization_id", "id"])
    op.create_index(
        "projects_slug",
        "projects",
        ["organization_id", "slug"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )


def _keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", Id, nullable=False),
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("project_id", Id),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text()),
        sa.Column("permissions", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text()),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("token_prefix", sa.Text(), nullable=False),
        sa.Column("expires_at", Ms),
        sa.Column("last_used_at", Ms),
        sa.Column("request_count", Ms, nullable=False, server_default="0"),
        sa.Column("created_at", Ms, nullable=False),
        sa.Column("revoked_at", Ms),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("keys_organization", "keys", ["organization_id", "id"])
    op.create_index("keys_token", "keys", ["token_hash"], unique=True)


def _people() -> None:
    op.create_table(
        "users",
        sa.Column("id", Id, nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text()),
        sa.Column("created_at", Ms, nullable=False),
        sa.Column("updated_at", Ms, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("users_email", "users", ["email"], unique=True)
    op.create_table(
        "members",
        sa.Column("id", Id, nullable=False),
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", Ms, nullable=False),
        sa.Column("updated_at", Ms, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("members_organization", "members", ["organization_id", "id"])
    op.create_index("members_user", "members", ["user_id", "organization_id"], unique=True)


def _sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", Id, nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("organization_id", Id),
        sa.Column("project_id", Id),
        sa.Column("address", sa.Text()),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("user_agent", sa.Text(), nullable=False),
        sa.Column("created_at", Ms, nullable=False),
        sa.Column("seen_at", Ms, nullable=False),
        sa.Column("ends_at", Ms, nullable=False),
        sa.Column("expires_at", Ms, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("sessions_token", "sessions", ["token_hash"], unique=True)
    op.create_index("sessions_user", "sessions", ["user_id", "id"])
    op.create_index("sessions_end", "sessions", ["ends_at"])
    op.create_table(
        "links",
        sa.Column("id", Id, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("user_id", Id),
        sa.Column("organization_id", Id),
        sa.Column("role", sa.Text()),
        sa.Column("created_at", Ms, nullable=False),
        sa.Column("expires_at", Ms, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("links_token", "links", ["token_hash"], unique=True)
    op.create_index("links_end", "links", ["expires_at"])


def _channels() -> None:
    op.create_table(
        "channels",
        sa.Column("id", Id, nullable=False),
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("project_id", Id),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("event_types", sa.Text(), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("format", sa.Text()),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("timeout_ms", sa.Integer(), nullable=False),
        sa.Column("rate_limit", sa.Text()),
        sa.Column("max_in_flight", sa.Integer()),
        sa.Column("ordered", sa.Boolean(), nullable=False),
        sa.Column("breaker", sa.Text()),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.Text()),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("version", Ms, nullable=False),
        sa.Column("created_at", Ms, nullable=False),
        sa.Column("updated_at", Ms, nullable=False),
        sa.Column("deleted_at", Ms),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("channels_organization", "channels", ["organization_id", "id"])


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", Id, nullable=False),
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("channel_id", Id),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("internal", sa.Boolean(), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("position", sa.Text(), nullable=False, server_default=""),
        sa.Column("total", Ms),
        sa.Column("done", Ms, nullable=False, server_default="0"),
        sa.Column("created_at", Ms, nullable=False),
        sa.Column("finished_at", Ms),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("jobs_organization", "jobs", ["organization_id", "id"])
    op.create_index(
        "jobs_running",
        "jobs",
        ["id"],
        sqlite_where=sa.text("status = 'running'"),
        postgresql_where=sa.text("status = 'running'"),
    )


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", Id, nullable=False),
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("at", Ms, nullable=False),
        sa.Column("actor_kind", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Text()),
        sa.Column("actor_name", sa.Text(), nullable=False),
        sa.Column("dialect", sa.Text(), nullable=False),
        sa.Column("address", sa.Text()),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target_kind", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("changes", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("audit_organization", "audit", ["organization_id", "id"])


def _lanes() -> None:
    op.create_table(
        "lanes",
        sa.Column("channel_id", Id, nullable=False),
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("parked", sa.Text()),
        sa.Column("next_due_ms", Ms),
        sa.Column("blocked_until_ms", Ms, nullable=False, server_default="0"),
        sa.Column("cancelled_through", Id),
        sa.Column("backlog_before_ms", Ms),
        sa.Column("backlog_through", Id),
        sa.Column("backlog_due_ms", Ms, nullable=False, server_default="0"),
        sa.Column("breaker_state", sa.Text()),
        sa.Column("breaker_until_ms", Ms, nullable=False, server_default="0"),
        sa.Column("breaker_probe", Id),
        sa.Column("breaker_streak", sa.Text(), nullable=False, server_default=""),
        sa.Column("ordered", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("unnumbered", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("exclusive", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("owner", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("last_seq", Ms, nullable=False, server_default="0"),
        sa.Column("version", Ms, nullable=False),
        sa.Column("last_sent_at", Ms),
        sa.Column("error_count", Ms, nullable=False, server_default="0"),
        sa.Column("last_error", sa.Text()),
        sa.Column("failing_streak", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("failing_delivery", Id),
        sa.Column("failing_since_ms", Ms),
        sa.PrimaryKeyConstraint("channel_id"),
        sqlite_with_rowid=False,
        postgresql_with=HOT_ROWS,
    )
    op.create_index(
        "lanes_due",
        "lanes",
        ["next_due_ms"],
        sqlite_where=sa.text("next_due_ms IS NOT NULL"),
        postgresql_where=sa.text("next_due_ms IS NOT NULL"),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", Id, nullable=False),
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("project_id", Id),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text()),
        sa.Column("occurred_at", Ms, nullable=False),
        sa.Column("created_at", Ms, nullable=False),
        sa.Column("deliveries", sa.Integer(), nullable=False),
        sa.Column("unmatched", sa.Text()),
        sa.Column("people", sa.LargeBinary()),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index("events_organization", "events", ["organization_id", "id"])


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", Id, nullable=False),
        sa.Column("event_id", Id, nullable=False),
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("channel_id", Id, nullable=False),
        sa.Column("project_id", Id),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("due_ms", Ms, nullable=False),
        sa.Column("node", sa.Integer(), nullable=False),
        sa.Column("claim", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.Column("seq", Ms),
        sa.Column("created_at", Ms, nullable=False),
        sa.Column("finished_at", Ms),
        sa.Column("last_status_code", sa.Integer()),
        sa.Column("last_error", sa.Text()),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index("deliveries_channel", "deliveries", ["channel_id", "id"])
    op.create_index("deliveries_event", "deliveries", ["event_id"])
    op.create_index(
        "deliveries_open",
        "deliveries",
        ["channel_id", "node", "due_ms", "id"],
        sqlite_where=sa.text("status = 'waiting'"),
        postgresql_where=sa.text("status = 'waiting'"),
    )
    op.create_index(
        "deliveries_ordered",
        "deliveries",
        ["channel_id", "seq"],
        sqlite_where=sa.text("status = 'waiting' AND seq IS NOT NULL"),
        postgresql_where=sa.text("status = 'waiting' AND seq IS NOT NULL"),
    )
    op.create_index("deliveries_organization", "deliveries", ["organization_id", "id"])


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("delivery_id", Id, nullable=False),
        sa.Column("claim", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("started_at", Ms, nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("status_code", sa.Integer()),
        sa.Column("error", sa.Text()),
        sa.Column("response_body", sa.Text()),
        sa.Column("superseded", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("delivery_id", "claim"),
        sqlite_with_rowid=False,
        postgresql_partition_by="RANGE (delivery_id)",
    )


def _idempotency() -> None:
    op.create_table(
        "idempotency",
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("project_id", Id, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("event_id", Id, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("deliveries", sa.Integer(), nullable=False),
        sa.Column("unmatched", sa.Text()),
        sa.Column("created_at", Ms, nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "project_id", "source", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index("idempotency_age", "idempotency", ["created_at"])
