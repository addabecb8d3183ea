"""The Applivery dialect in words: every call with an example, every field with its rule."""

from typing import Any

from tocsin.domain.applivery_events import flags_of
from tocsin.web.applivery import bodies, routes
from tocsin.web.applivery.errors import refuse
from tocsin.web.reference.words import CallWords, DialectWords, example_errors

_A = "/v1/organizations/{org}/apps/{app}/notifications"
_O = "/v1/organizations/{org}/notifications"
_AT = "2026-11-20T09:30:00.000Z"
_SECRET = "whsec_RXhhbXBsZSBvZiBhIHNpZ25pbmcgc2VjcmV0LiBObyE="  # noqa: S105 - nobody's
_URL = "https://example.com/hooks/builds"

_REQUEST: dict[str, Any] = {
    "type": "webhook",
    "description": "Builds",
    "events": {"buildCreated": True, "buildProcessed": True},
    "setup": {"webhook": {"url": _URL}},
}


def _shown(*, organization_level: bool) -> dict[str, Any]:
    flags = (flag.name for flag in flags_of(organization_level=organization_level))
    level = {} if organization_level else {"application": "019a5c1e9f40000001000002"}
    return {
        "id": "019a5c1eb360000001000003",
        "organization": "019a5c1e8b20000001000001",
        **level,
        "description": "Builds",
        "type": "webhook",
        "config": {"webhook": {"url": _URL, "token": _SECRET}},
        "events": {name: name in _REQUEST["events"] for name in flags},
        "updatedAt": _AT,
        "createdAt": _AT,
    }


def _page(item: Any) -> Any:
    return {
        "items": [item],
        "totalDocs": 1,
        "limit": 100,
        "page": 1,
        "totalPages": 1,
        "hasPrevPage": False,
        "hasNextPage": False,
        "prevPage": None,
        "nextPage": None,
    }


def _calls(path: str, resource: str, owner: str, *, organization_level: bool) -> Any:
    one = _shown(organization_level=organization_level)

    def call(summary: str, reply: Any, **more: Any) -> CallWords:
        return CallWords(
            resource=resource, summary=summary, reply={"status": True, "data": reply}, **more
        )

    return {
        f"POST {path}": call(
            f"Create a notification of {owner}",
            one,
            request=_REQUEST,
            text="With `type` slack, `setup.slack` carries the `code` and `redirectUri` of Slack's "
            "consent page, which are exchanged for an incoming webhook.",
        ),
        f"GET {path}": call(
            f"List the notifications of {owner}", _page(one), query="sort=createdAt:desc"
        ),
        f"GET {path}/{{id}}": call(f"Read a notification of {owner}", one),
        f"PUT {path}/{{id}}": call(
            f"Change a notification of {owner}",
            one | {"description": "Builds of iOS"},
            request={"description": "Builds of iOS", "events": {"feedbackCreated": False}},
            text="What is left out stays; an empty description is none.",
        ),
        f"DELETE {path}/{{id}}": call(f"Delete a notification of {owner}", {"delete": "OK"}),
    }


def _events(*, organization_level: bool) -> dict[str, str]:
    return {
        flag.name: f"Hear of {', '.join(f'`{type}`' for type in flag.actions)}."
        for flag in flags_of(organization_level=organization_level)
    }


_CHANGE = {
    "events": "Flags to change; the others stay.",
    "description": "≤ 128 characters; an empty one is none.",
    "setup": "A new target, for a webhook.",
}
_NOTIFICATION = {
    "type": "What kind of target it has.",
    "events": "Which events it hears, by flag; what is left out is false.",
    "description": "≤ 128 characters.",
    "setup": "The member that `type` names: where to send to.",
}

WORDS = DialectWords(
    name="Applivery",
    anchor="applivery",
    prefix="/v1/organizations",
    text="For clients of Applivery's notification API: change the base URL, nothing else. An "
    "application is a project, a notification is a channel of type slack or webhook. Unknown keys "
    "in a body are ignored, and every success is 200.",
    credential="`Authorization: Bearer …`, with a key's token or the operator token.",
    resources={
        "Notifications of an application": "Channels of a project.",
        "Notifications of the organization": "Channels of the whole organization: they hear all "
        "of its applications.",
    },
    parameters={
        "org": "The organization: id or slug.",
        "app": "The application: id or slug of a project.",
        "id": "Its id, 24 hexadecimal characters.",
    },
    fields={
        "*": {
            "id": "24 hexadecimal characters.",
            "status": "Whether the call went well.",
            "data": "What was asked for.",
            "createdAt": "ISO 8601, UTC, milliseconds.",
            "updatedAt": "When it was changed last.",
        },
        "ApplicationNotificationIn": _NOTIFICATION,
        "OrganizationNotificationIn": _NOTIFICATION,
        "ApplicationNotificationChangeIn": _CHANGE,
        "OrganizationNotificationChangeIn": _CHANGE,
        "SetupChangeIn": {
            "webhook": "`{url}`: http or https, ≤ 256 characters, ≤ 500 for the organization.",
        },
        "ApplicationEventsIn": _events(organization_level=False),
        "OrganizationEventsIn": _events(organization_level=True),
        "SetupIn": {
            "webhook": "`{url}`: http or https, ≤ 256 characters, ≤ 500 for the organization.",
            "slack": "`{code, redirectUri}` of Slack's consent page.",
        },
        "NotificationOut": {
            "organization": "Id of the organization.",
            "application": "Id of the application; not there for the organization's own.",
            "description": "Not there when there is none.",
            "type": "`slack` or `webhook`.",
            "config": "The member of its type.",
            "events": "Every flag of its level.",
        },
        "ConfigOut": {"slack": "Where Slack shows it.", "webhook": "Where it is sent."},
        "SlackOut": {"team": "The workspace's name.", "channel": "The channel's name."},
        "WebhookOut": {
            "url": "The target.",
            "token": "The secret that signs; masked for those who may not update it.",
        },
        "PageOut": {
            "items": "The notifications.",
            "totalDocs": "How many there are in all.",
            "limit": "How many on a page.",
            "page": "This page, from 1.",
            "totalPages": "At least 1.",
            "hasPrevPage": "Whether there is one before.",
            "hasNextPage": "Whether there is one after.",
            "prevPage": "Its number, or null.",
            "nextPage": "Its number, or null.",
        },
        "AppliveryError": {"status": "Always false.", "error": "What is wrong."},
        "ErrorBody": {
            "code": "What is wrong, for programs; one of a closed list.",
            "message": "The code in words.",
            "data": "Details, where there are some.",
        },
        "ErrorData": {
            "errors": "Fields that break a rule.",
            "slack": "Slack's own name of its error.",
        },
        "DeletedOut": {"delete": "Always `OK`."},
        "ErrorItem": {"field": "Dotted path.", "message": "The rule it breaks."},
    },
    calls=_calls(_A, "Notifications of an application", "an application", organization_level=False)
    | _calls(_O, "Notifications of the organization", "the organization", organization_level=True),
    errors=example_errors(refuse),
    structs=(*routes.STRUCTS, bodies.SetupIn),
)
