"""How Tocsin watches its own deliveries, tells of them, and shares duties between nodes."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from tocsin.storage.control.schema import set_version

revision = "0002"
down_revision: str | None = "0001"
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
    """Create everything, in the order of `watch_tables.py`."""
    _duties()
    _outbox()
    _channel_minutes()
    _project_minutes()
    for grain in ("hours", "days"):
        _channel_hours(f"channel_{grain}")
        _project_hours(f"project_{grain}")
    _served_minutes()
    _issues()
    _alert_rules()
    _alert_history()
    _lanes()
    set_version(op.get_bind(), int(revision))


def _duties() -> None:
    op.create_table(
        "duties",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("node", sa.Integer(), nullable=False),
        sa.Column("until_ms", Ms, nullable=False),
        sa.PrimaryKeyConstraint("name"),
        postgresql_with=HOT_ROWS,
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", Id, nullable=False),
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("channel_id", Id),
        sa.Column("at", Ms, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        postgresql_with=HOT_ROWS,
    )


def _channel_minutes() -> None:
    op.create_table(
        "channel_minutes",
        sa.Column("channel_id", Id, nullable=False),
        sa.Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("node", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("delivered", sa.BigInteger(), nullable=False),
        sa.Column("exhausted", sa.BigInteger(), nullable=False),
        *(
            sa.Column(f"l{at}", sa.Integer(), nullable=False, server_default="0")
            for at in range(48)
        ),
        sa.PrimaryKeyConstraint("channel_id", "minute", "node"),
        sqlite_with_rowid=False,
        postgresql_with=HOT_ROWS,
    )
    op.create_index("channel_minutes_minute", "channel_minutes", ["minute"])


def _project_minutes() -> None:
    op.create_table(
        "project_minutes",
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("project_id", Id, nullable=False),
        sa.Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("node", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("accepted", sa.BigInteger(), nullable=False),
        sa.Column("unmatched", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "project_id", "minute", "node"),
        sqlite_with_rowid=False,
        postgresql_with=HOT_ROWS,
    )
    op.create_index("project_minutes_minute", "project_minutes", ["minute"])


def _channel_hours(name: str) -> None:
    op.create_table(
        name,
        sa.Column("channel_id", Id, nullable=False),
        sa.Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("delivered", sa.BigInteger(), nullable=False),
        sa.Column("exhausted", sa.BigInteger(), nullable=False),
        *(
            sa.Column(f"l{at}", sa.BigInteger(), nullable=False, server_default="0")
            for at in range(48)
        ),
        sa.PrimaryKeyConstraint("channel_id", "minute"),
        sqlite_with_rowid=False,
    )
    op.create_index(f"{name}_minute", name, ["minute"])
    op.create_index(f"{name}_organization", name, ["organization_id"])


def _project_hours(name: str) -> None:
    op.create_table(
        name,
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("project_id", Id, nullable=False),
        sa.Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("accepted", sa.BigInteger(), nullable=False),
        sa.Column("unmatched", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "project_id", "minute"),
        sqlite_with_rowid=False,
    )
    op.create_index(f"{name}_minute", name, ["minute"])


def _served_minutes() -> None:
    op.create_table(
        "served_minutes",
        sa.Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("node", sa.Integer(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("minute", "node"),
        sqlite_with_rowid=False,
    )


def _issues() -> None:
    op.create_table(
        "issues",
        sa.Column("id", Id, nullable=False),
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("project_id", Id),
        sa.Column("channel_id", Id, nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("snoozed_until", Ms),
        sa.Column("occurrence_count", sa.BigInteger(), nullable=False),
        sa.Column("first_seen_at", Ms, nullable=False),
        sa.Column("last_seen_at", Ms, nullable=False),
        sa.Column("opened_at", Ms, nullable=False),
        sa.Column("resolved_at", Ms),
        sa.Column("last_delivery_id", Id),
        sa.Column("last_attempt_number", sa.Integer()),
        sa.Column("last_event_id", Id),
        sa.Column("last_error", sa.Text()),
        sa.Column("last_status_code", sa.Integer()),
        sa.Column("created_at", Ms, nullable=False),
        sa.Column("updated_at", Ms, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("issues_fingerprint", "issues", ["channel_id", "fingerprint"], unique=True)
    op.create_index("issues_opened", "issues", ["opened_at"])
    op.create_index("issues_organization", "issues", ["organization_id", "id"])


def _alert_rules() -> None:
    op.create_table(
        "alert_rules",
        sa.Column("id", Id, nullable=False),
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("project_id", Id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("rule_type", sa.Text(), nullable=False),
        sa.Column("rule_config", sa.Text(), nullable=False),
        sa.Column("source_id", Id),
        sa.Column("destination_id", Id),
        sa.Column("channel_ids", sa.Text(), nullable=False),
        sa.Column("cooldown_minutes", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("evaluated_minute", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("firing_since", Ms),
        sa.Column("last_true_at", Ms),
        sa.Column("last_triggered_at", Ms),
        sa.Column("trigger_count", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("created_at", Ms, nullable=False),
        sa.Column("updated_at", Ms, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("alert_rules_organization", "alert_rules", ["organization_id", "id"])


def _alert_history() -> None:
    op.create_table(
        "alert_history",
        sa.Column("id", Id, nullable=False),
        sa.Column("organization_id", Id, nullable=False),
        sa.Column("project_id", Id, nullable=False),
        sa.Column("alert_rule_id", Id, nullable=False),
        sa.Column("trigger_reason", sa.Text(), nullable=False),
        sa.Column("trigger_data", sa.Text(), nullable=False),
        sa.Column("channels_notified", sa.Text(), nullable=False),
        sa.Column("created_at", Ms, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("alert_history_rule", "alert_history", ["alert_rule_id", "id"])


def _lanes() -> None:
    op.add_column("lanes", sa.Column("failing_deliveries", Id))
    op.add_column(
        "lanes", sa.Column("failing_told", sa.Boolean(), nullable=False, server_default=sa.false())
    )
