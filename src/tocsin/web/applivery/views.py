"""The notification object and the pages of them."""

from msgspec import UNSET, Struct, UnsetType

from tocsin.domain.applivery_events import shown_flags
from tocsin.domain.model import ChannelState
from tocsin.domain.text import MASK, iso
from tocsin.service.channels import Channels


class SlackOut(Struct):
    """Where Slack shows the messages."""

    team: str | None
    channel: str | None


class WebhookOut(Struct):
    """The URL, and the Standard Webhooks secret that signs."""

    url: str
    token: str


class ConfigOut(Struct):
    """Only the member of the notification's type."""

    slack: SlackOut | UnsetType = UNSET
    webhook: WebhookOut | UnsetType = UNSET


class NotificationOut(Struct, rename="camel", kw_only=True):
    """A channel; `application` and `description` only where there is one."""

    id: str
    organization: str
    application: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    type: str
    config: ConfigOut
    events: dict[str, bool]
    updated_at: str
    created_at: str


class NotificationReply(Struct, kw_only=True):
    """One notification."""

    status: bool = True
    data: NotificationOut


class DeletedOut(Struct, frozen=True):
    """The one thing to say about what is no more."""

    delete: str = "OK"


class DeletedReply(Struct, kw_only=True):
    """A notification was deleted."""

    status: bool = True
    data: DeletedOut = DeletedOut()


class PageOut(Struct, rename="camel", kw_only=True):
    """A numbered page."""

    items: list[NotificationOut]
    total_docs: int
    limit: int
    page: int
    total_pages: int
    has_prev_page: bool
    has_next_page: bool
    prev_page: int | None
    next_page: int | None


class PageReply(Struct, kw_only=True):
    """A page of notifications."""

    status: bool = True
    data: PageOut


def notification(state: ChannelState, channels: Channels, *, clear: bool) -> NotificationOut:
    """As shown; the token is clear for those who may update the channel."""
    channel = state.channel
    settings, _ = channels.masked(state)
    if channel.type == "webhook":
        token = (channels.clear_secret(state) or "") if clear else f"whsec_{MASK}"
        config = ConfigOut(webhook=WebhookOut(str(settings.get("url", "")), token))
    else:
        config = ConfigOut(slack=SlackOut(settings.get("team"), settings.get("channel")))
    return NotificationOut(
        id=channel.id,
        organization=channel.organization_id,
        application=channel.project_id or UNSET,
        description=channel.description or UNSET,
        type=channel.type,
        config=config,
        events=shown_flags(channel.event_types, organization_level=channel.project_id is None),
        updated_at=iso(channel.updated_at),
        created_at=iso(channel.created_at),
    )


def numbered(items: list[NotificationOut], total: int, *, page: int, limit: int) -> PageOut:
    """The page with its neighbours; one beyond the end is empty."""
    pages = max(1, -(-total // limit))
    return PageOut(
        items=items,
        total_docs=total,
        limit=limit,
        page=page,
        total_pages=pages,
        has_prev_page=page > 1,
        has_next_page=page < pages,
        prev_page=page - 1 if page > 1 else None,
        next_page=page + 1 if page < pages else None,
    )
