"""An issue as settling leaves it, without a delivery that failed."""

from typing import Any

import sqlalchemy as sa
from tests.storage.stores import new_id, now_ms

from tocsin.app import App
from tocsin.storage.watch_tables import issues


async def make_issue(
    app: App, organization_id: str, project_id: str | None, channel_id: str, **values: Any
) -> str:
    """A new issue of a channel; returns its id."""
    at = now_ms()
    row = {
        "id": new_id(),
        "organization_id": organization_id,
        "project_id": project_id,
        "channel_id": channel_id,
        "fingerprint": "http_500",
        "title": "The target answers HTTP 500",
        "status": "open",
        "occurrence_count": 1,
        "first_seen_at": at,
        "last_seen_at": at,
        "opened_at": at,
        "created_at": at,
        "updated_at": at,
    } | values
    await app.changes.store.write(lambda c: c.execute(sa.insert(issues).values(row)).rowcount)
    return str(row["id"])
