"""Alert rules and their history. Ids of channels that are deleted stay in the rows and are left out
whenever these are read."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection

from tocsin.domain.alerts import AlertRule, Trigger
from tocsin.domain.errors import NotFound
from tocsin.domain.model import ChannelId, OrganizationId, ProjectId
from tocsin.storage.control.walk import AnyRow, Sight, Walked, newest, put
from tocsin.storage.tables import channels, organizations
from tocsin.storage.watch_tables import alert_history, alert_rules

IDS_PER_STATEMENT_MAX = 500

_FIELDS = tuple(
    name for name in AlertRule.__struct_fields__ if name not in ("channel_ids", "organization_id")
)


def _ids(text: str) -> tuple[ChannelId, ...]:
    """The channels of a row; what can't be read tells nobody, and stops nothing."""
    try:
        return tuple(msgspec.json.decode(text, type=list[ChannelId]))
    except msgspec.DecodeError:
        return ()


def rule_of(row: AnyRow, living: Collection[str] | None = None) -> AlertRule:
    """A rule from a row, with its channels: those that are `living`, or all it names."""
    fields: dict[str, Any] = {name: getattr(row, name) for name in _FIELDS}
    ids = _ids(row.channel_ids)
    return AlertRule(
        organization_id=OrganizationId(row.organization_id),
        channel_ids=ids if living is None else tuple(id for id in ids if id in living),
        **fields,
    )


def _rules(connection: Connection, rows: Sequence[AnyRow]) -> list[AlertRule]:
    """Rules of one organization, without the ids of channels that are gone."""
    if not rows:
        return []
    named = {id for row in rows for id in _ids(row.channel_ids)}
    living = living_channels(connection, OrganizationId(rows[0].organization_id), named)
    return [rule_of(row, living) for row in rows]


def living_channels(
    connection: Connection, organization_id: OrganizationId, ids: Collection[ChannelId]
) -> dict[ChannelId, ProjectId | None]:
    """Those of these channels that the organization has, with the project of each."""
    found: dict[ChannelId, ProjectId | None] = {}
    for some in chunks(sorted(ids)):
        rows = connection.execute(
            sa.select(channels.c.id, channels.c.project_id).where(
                channels.c.id.in_(some),
                channels.c.organization_id == organization_id,
                channels.c.deleted_at.is_(None),
            )
        )
        found |= {ChannelId(row.id): row.project_id for row in rows}
    return found


def chunks(ids: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Few enough for one statement each."""
    for start in range(0, len(ids), IDS_PER_STATEMENT_MAX):
        yield ids[start : start + IDS_PER_STATEMENT_MAX]


def _seen(sight: Sight) -> list[ColumnElement[bool]]:
    seen = [alert_rules.c.organization_id == sight.organization_id]
    if sight.project_id is not None:
        seen.append(alert_rules.c.project_id == sight.project_id)
    return seen


def organization_of(connection: Connection, rule_id: str) -> OrganizationId | None:
    """Whose rule this is, out of all; for the operator, who names a rule by its id alone."""
    found = connection.scalar(
        sa.select(alert_rules.c.organization_id).where(alert_rules.c.id == rule_id)
    )
    return None if found is None else OrganizationId(found)


def get(connection: Connection, sight: Sight, rule_id: str, *, lock: bool = False) -> AlertRule:
    """A rule in sight; raises NotFound. With `lock` it stays as it is to the transaction's end."""
    query = sa.select(alert_rules).where(alert_rules.c.id == rule_id, *_seen(sight))
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFound
    return _rules(connection, [row])[0]


def walk(
    connection: Connection,
    sight: Sight,
    *,
    project_id: ProjectId | None = None,
    limit: int,
    below: str | None,
) -> Walked[AlertRule]:
    """The rules in sight, or those of one project, newest first."""
    rows = sa.select(alert_rules.c.id, alert_rules.c.project_id).where(*_seen(sight))
    page = newest(
        connection,
        rows if project_id is None else rows.where(alert_rules.c.project_id == project_id),
        alert_rules.c.id,
        limit=limit,
        below=below,
    )
    found = connection.execute(
        sa.select(alert_rules)
        .where(alert_rules.c.id.in_(page.items))
        .order_by(alert_rules.c.id.desc())
    )
    return put(page, _rules(connection, found.all()))


def count(connection: Connection, sight: Sight) -> int:
    """How many rules the organization has, whatever is in sight; in order with whoever else asks,
    for its quota."""
    connection.execute(
        sa.select(organizations.c.id)
        .where(organizations.c.id == sight.organization_id)
        .with_for_update(key_share=True)
    )
    mine = alert_rules.c.organization_id == sight.organization_id
    return connection.scalar(sa.select(sa.func.count()).where(mine)) or 0


def _values(rule: AlertRule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "description": rule.description,
        "rule_config": rule.rule_config,
        "source_id": rule.source_id,
        "destination_id": rule.destination_id,
        "channel_ids": msgspec.json.encode(rule.channel_ids).decode(),
        "cooldown_minutes": rule.cooldown_minutes,
        "enabled": rule.enabled,
        "version": rule.version,
        "evaluated_minute": rule.evaluated_minute,
        "firing_since": rule.firing_since,
        "last_true_at": rule.last_true_at,
        "updated_at": rule.updated_at,
    }


def create(connection: Connection, sight: Sight, rule: AlertRule) -> None:
    """Store a new rule of the organization in sight."""
    connection.execute(
        sa.insert(alert_rules).values(
            id=rule.id,
            organization_id=sight.organization_id,
            project_id=rule.project_id,
            rule_type=rule.rule_type,
            created_at=rule.created_at,
            **_values(rule),
        )
    )


def replace(connection: Connection, sight: Sight, rule: AlertRule) -> None:
    """Store a changed rule that `get` has locked."""
    connection.execute(
        sa.update(alert_rules)
        .where(alert_rules.c.id == rule.id, *_seen(sight))
        .values(**_values(rule))
    )


def delete(connection: Connection, sight: Sight, rule_id: str) -> None:
    """Remove a rule; its history stays until retention. Raises NotFound."""
    done = connection.execute(
        sa.delete(alert_rules).where(alert_rules.c.id == rule_id, *_seen(sight))
    )
    if not done.rowcount:
        raise NotFound


def channels_gone(
    connection: Connection, sight: Sight, channel_ids: Sequence[str], *, now_ms: int
) -> None:
    """Disable the rules that watch one of these channels: there is nothing to see any more."""
    for some in chunks(channel_ids):
        _disable(connection, sight, alert_rules.c.destination_id.in_(some), now_ms)


def project_gone(
    connection: Connection, sight: Sight, project_id: ProjectId, *, now_ms: int
) -> None:
    """Remove the rules of a project, and disable those of others that watch it."""
    mine = alert_rules.c.organization_id == sight.organization_id
    connection.execute(sa.delete(alert_rules).where(mine, alert_rules.c.project_id == project_id))
    _disable(connection, sight, alert_rules.c.source_id == project_id, now_ms)


def _disable(connection: Connection, sight: Sight, which: ColumnElement[bool], now_ms: int) -> None:
    connection.execute(
        sa.update(alert_rules)
        .where(
            which,
            alert_rules.c.organization_id == sight.organization_id,
            alert_rules.c.enabled.is_(True),
        )
        .values(
            enabled=False,
            firing_since=None,
            last_true_at=None,
            version=alert_rules.c.version + 1,
            updated_at=now_ms,
        )
    )


def history(connection: Connection, sight: Sight, rule_id: str, *, limit: int) -> list[Trigger]:
    """The last times that a rule triggered, newest first."""
    wanted = [
        alert_history.c.alert_rule_id == rule_id,
        alert_history.c.organization_id == sight.organization_id,
    ]
    if sight.project_id is not None:
        wanted.append(alert_history.c.project_id == sight.project_id)
    rows = connection.execute(
        sa.select(alert_history).where(*wanted).order_by(alert_history.c.id.desc()).limit(limit)
    )
    return [Trigger(**row._mapping) for row in rows]
