"""A channel's failing streak: failures in a row of different deliveries, and what is told of it;
pure, the same everywhere."""

from collections.abc import Sequence

from msgspec import Struct

from tocsin.domain.model import DeliveryId

FAILING_AFTER = 5
"""So many different deliveries failing in a row make a channel `failing`."""

FAILING = "channel.failing"
RECOVERED = "channel.recovered"
DISABLED = "channel.disabled"


class Streak(Struct, frozen=True):
    """A lane's streak as its row has it.

    `deliveries` are the first different ones that failed, `count` goes on beyond these. `told`
    says that the channel was reported failing, and not yet recovered: a change of its settings
    starts the streak afresh, but is no recovery.
    """

    deliveries: tuple[str, ...] = ()
    count: int = 0
    told: bool = False


def after(
    before: Streak, *, ended: bool, failed: Sequence[DeliveryId], counted: int
) -> tuple[Streak, list[str]]:
    """The streak after a batch, and what is to be told, in order.

    `ended`: there was a success; `failed` are the deliveries that failed since then (or in all),
    `counted` how many of these were new to whoever sent them. A streak that begins and ends
    within one batch is told to nobody.
    """
    told, notes = before.told, []
    if ended and told:
        told = False
        notes.append(RECOVERED)
    deliveries = () if ended else before.deliveries
    for delivery_id in failed:
        if len(deliveries) >= FAILING_AFTER:
            break
        if delivery_id not in deliveries:
            deliveries = (*deliveries, delivery_id)
    count = 0 if ended else before.count
    if len(deliveries) >= FAILING_AFTER or count >= FAILING_AFTER:
        count = max(len(deliveries), count + counted)
    else:
        count = len(deliveries)
    if len(deliveries) >= FAILING_AFTER and not told:
        told = True
        notes.append(FAILING)
    return Streak(deliveries, count, told), notes
