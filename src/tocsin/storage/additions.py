"""What the answers to publishes mean to any driver; pure."""

from collections.abc import Sequence
from typing import Any

from tocsin.domain.model import ChannelId, DeliveryId
from tocsin.storage.base import Added, NewEvent, Stored

Taken = tuple[DeliveryId, int, ChannelId]
"""A claim: of which delivery, under which number, of which channel."""


def joined(answers: Sequence[Any]) -> list[Added | Exception]:
    """What became of the parts of a publish, in order; a part may be one event's error."""
    whole: list[Added | Exception] = []
    for answer in answers:
        whole += answer if isinstance(answer, list) else [answer]
    return whole


def claimed_at_birth(items: Sequence[NewEvent], added: Sequence[Added]) -> list[Taken]:
    """The claims that the answers tell of."""
    claimed = {id for one in added if isinstance(one, Stored) for id in one.claimed}
    return [
        (delivery.id, 1, delivery.channel_id)
        for item in items
        for delivery in item.deliveries
        if delivery.id in claimed
    ]
