"""The bodies of webhooks: one event in each of the four envelopes, as bytes ready to sign.

The event's data goes in byte for byte: what was accepted is what arrives. Ids, types and times
need no escaping, their rules leave nothing to escape.
"""

from typing import assert_never

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from tocsin.domain.applivery_events import action_of
from tocsin.domain.model import Channel, Event, Format, Origin
from tocsin.domain.text import iso

TEST_TYPE = "tocsin.test"
TEST_MESSAGE = "This is a test notification from Tocsin."
TEST_DATA = msgspec.json.encode({"message": TEST_MESSAGE})
"""The data of the event behind a test send."""

CONTENT_TYPES = {
    Format.TOCSIN: "application/json",
    Format.CLOUDEVENTS: "application/cloudevents+json",
    Format.APPLIVERY: "application/json",
    Format.HOOKSTREAM: "application/json",
}


class AlertData(Struct, frozen=True, kw_only=True):
    """The data of an event of origin alert, member by member as raw JSON."""

    alert_rule: Raw
    trigger_reason: Raw
    trigger_data: Raw
    source_id: Raw
    destination_id: Raw
    resolved_at: Raw | UnsetType = UNSET


class _TestData(Struct, frozen=True):
    message: str = TEST_MESSAGE


_decode_alert = msgspec.json.Decoder(AlertData).decode
_decode_test = msgspec.json.Decoder(_TestData).decode


def render(format: Format, event: Event, origin: Origin, channel: Channel) -> bytes:
    """The body of a webhook delivery; the same input always gives the same bytes."""
    match format:
        case Format.TOCSIN:
            return _tocsin(event)
        case Format.CLOUDEVENTS:
            return _cloudevents(event)
        case Format.APPLIVERY:
            return _applivery(event, origin)
        case Format.HOOKSTREAM:
            return _hookstream(event, origin, channel)
    assert_never(format)


def _quoted(id: str | None) -> str:
    return "null" if id is None else f'"{id}"'


def _tocsin(event: Event) -> bytes:
    head = (
        f'{{"id":"{event.id}","type":"{event.type}","timestamp":"{iso(event.occurred_at)}",'
        f'"organization":"{event.organization_id}","project":{_quoted(event.project_id)},"data":'
    )
    return head.encode() + event.data + b"}"


def _cloudevents(event: Event) -> bytes:
    """Structured mode, CloudEvents 1.0.2, section 3 of its JSON format."""
    source = f"/organizations/{event.organization_id}"
    if event.project_id is not None:
        source += f"/projects/{event.project_id}"
    head = (
        f'{{"specversion":"1.0","id":"{event.id}","source":"{source}","type":"{event.type}",'
        f'"time":"{iso(event.occurred_at)}","datacontenttype":"application/json","data":'
    )
    return head.encode() + event.data + b"}"


def _applivery(event: Event, origin: Origin) -> bytes:
    action = "test" if origin is Origin.TEST else action_of(event.type)
    head = (
        f'{{"action":"{action}","id":"{event.id}","organization":"{event.organization_id}",'
        f'"application":{_quoted(event.project_id)},"timestamp":"{iso(event.occurred_at)}","data":'
    )
    return head.encode() + event.data + b"}"


def _hookstream(event: Event, origin: Origin, channel: Channel) -> bytes:
    if origin is Origin.TEST:
        return _hookstream_test(event, channel)
    if origin is Origin.ALERT:
        return _hookstream_alert(event)
    head = f'{{"event":"{event.type}","id":"{event.id}","data":'
    return head.encode() + event.data + b"," + _hookstream_tail(event)


def _hookstream_test(event: Event, channel: Channel) -> bytes:
    try:
        message = _decode_test(event.data).message
    except msgspec.DecodeError:
        message = TEST_MESSAGE
    document = {
        "event": "test",
        "message": message,
        "channel": {"id": channel.id, "name": channel.name},
        "org_id": event.organization_id,
        "env_id": event.project_id or channel.project_id,
        "timestamp": iso(event.occurred_at),
    }
    return msgspec.json.encode(document)


def _hookstream_alert(event: Event) -> bytes:
    data = _decode_alert(event.data)
    document = {
        "event": event.type,
        "alert_rule": data.alert_rule,
        "trigger_reason": data.trigger_reason,
        "trigger_data": data.trigger_data,
        "org_id": event.organization_id,
        "env_id": event.project_id,
        "source_id": data.source_id,
        "destination_id": data.destination_id,
        "timestamp": iso(event.occurred_at),
    }
    if data.resolved_at is not UNSET:
        document["resolved_at"] = data.resolved_at
    return msgspec.json.encode(document)


def _hookstream_tail(event: Event) -> bytes:
    return (
        f'"org_id":"{event.organization_id}","env_id":{_quoted(event.project_id)},'
        f'"timestamp":"{iso(event.occurred_at)}"}}'
    ).encode()
