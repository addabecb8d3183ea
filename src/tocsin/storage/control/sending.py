"""What the engine reads: a channel by its id alone, because a delivery has brought it there."""

import sqlalchemy as sa
from sqlalchemy import Connection

from tocsin.domain.model import Channel, ChannelId
from tocsin.storage.control.channels import channel_of
from tocsin.storage.tables import channels


def channel_for_sending(connection: Connection, channel_id: ChannelId) -> Channel | None:
    """The channel as it is now, or None when it was deleted."""
    row = connection.execute(
        sa.select(channels).where(channels.c.id == channel_id, channels.c.deleted_at.is_(None))
    ).first()
    return None if row is None else channel_of(row)
