"""Every call of the Applivery and hookstream dialects, field by field, by their contracts."""

from tests.hostile.registry import Row
from tests.hostile.rules import (
    ASTRAL,
    REQUIRED,
    Cases,
    absent,
    bad,
    flag,
    good,
    listed,
    null,
    number,
    optional,
    patterns,
    text,
    types,
    url,
)
from tests.hostile.world import HOOK

A = "/v1/organizations/{org}/apps/{project}/notifications"
O = "/v1/organizations/{org}/notifications"  # noqa: E741 - the contract's name
H = "/v1/notification-channels"
MASK = "\u2022\u2022\u2022\u2022"

_SMALL = ("buildCreated", "buildProcessed", "feedbackCreated", "certificateWillExpire")
_LARGE = (
    "applePushRenovation",
    "inventoryItemRegistered",
    *(f"{os}EnrollmentCreated" for os in ("emm", "adm", "win", "aos")),
    *(f"{os}DeviceCreated" for os in ("emm", "adm", "win", "aos")),
    *(f"{os}DeviceChangedMdmUser" for os in ("emm", "adm", "win", "aos")),
)
ANYTHING = good(text="x", number=1, object={}, array=[None], null=None)


def _flag() -> Cases:
    return flag() + optional()


def _applivery(path: str, *, whole: bool) -> tuple[Row, ...]:
    urls = 500 if whole else 256
    one = path + ("/{whole}" if whole else "/{channel}")
    events = types("object") + good(empty={}) + (REQUIRED if whole else optional())
    flags = {f"events.{name}": _flag() for name in _SMALL}
    flags |= {f"events.{name}": _flag() if whole else ANYTHING for name in _LARGE}
    return (
        Row(
            dialect="applivery",
            method="POST",
            path=path,
            success=200,
            body={"type": "webhook", "events": {}, "setup": {"webhook": {"url": HOOK}}},
            text_field="description",
            fields={
                "type": types("string")
                + REQUIRED
                + good(webhook="webhook")
                + bad(capitals="Webhook", line_end="webhook\n", empty="", other="discord")
                + bad("setup.slack", slack="slack"),
                "events": events,
                "events.unknown": ANYTHING,
                **flags,
                "description": text(0, 128) + optional(),
                "setup": types("object") + absent(ok=False) + null(ok=False) + bad(empty={}),
                "setup.slack": ANYTHING,
                "setup.unknown": ANYTHING,
                "setup.webhook": types("object") + REQUIRED + bad(empty={}),
                "setup.webhook.url": url(urls) + REQUIRED,
                "setup.webhook.token": ANYTHING,
                "unknown": ANYTHING,
                "organization": ANYTHING,
                "id": ANYTHING,
            },
        ),
        Row(
            dialect="applivery",
            method="POST",
            path=path,
            note="slack",
            success=400,  # not configured here: nothing is taken, but this comes last
            body={
                "type": "slack",
                "events": {},
                "setup": {"slack": {"code": "c", "redirectUri": "https://x/"}},
            },
            text_field="description",
            fields={
                "setup": types("object") + absent(ok=False) + null(ok=False) + bad(empty={}),
                "setup.slack": types("object") + REQUIRED + bad(empty={}),
                "setup.slack.code": text(1, 256) + REQUIRED,
                "setup.slack.redirectUri": text(1, urls) + REQUIRED,
                "setup.webhook": ANYTHING,
                "description": text(0, 128) + optional(),
            },
        ),
        Row(dialect="applivery", method="GET", path=path, success=200, query=_LISTING),
        Row(dialect="applivery", method="GET", path=one, success=200),
        Row(dialect="applivery", method="DELETE", path=one, success=200),
        Row(
            dialect="applivery",
            method="PUT",
            path=one,
            success=200,
            body={"description": "d"},
            text_field="description",
            fields={
                "description": text(0, 128) + optional(),
                "events": types("object") + good(empty={}) + optional(),
                "events.unknown": ANYTHING,
                **flags,
                "setup": types("object") + good(empty={}) + optional(),
                "setup.slack": ANYTHING,
                "setup.webhook": types("object") + optional() + bad(empty={}),
                "setup.webhook.url": url(urls) + REQUIRED,
                "type": ANYTHING,
                "unknown": ANYTHING,
            },
        ),
    )


_LISTING: dict[str, Cases] = {
    "page": number(1, 999_999_999)[:1] + listed(("2", "99999"), ok=True)
    + listed(("0", "-1", "", "1.0", "x", "%EF%BC%91", "9" * 40, "1%0A"), ok=False),
    "limit": number(1, 100),
    "sort": listed(
        (
            "",
            *("createdAt", "updatedAt", "type", "description"),
            *("createdAt:asc", "createdAt:desc", "description:asc", "type:desc"),
        ),
        ok=True,
    )
    + listed(
        (
            *("name", "createdAt:", "createdAt:up", "createdAt:ASC", "CREATEDAT", "createdAt%0A"),
            *("createdAt:asc:desc", "createdAt;drop", "createdAt,type", "%C3%A9", "%00", "."),
        ),
        ok=False,
    ),
    "type": listed(("slack", "webhook"), ok=True)
    + listed(("", "discord", "Webhook", "webhook%0A", "%00", "webhook,slack"), ok=False),
    "unknown": listed(("x", "%F0%9F%98%80"), ok=True),
}  # fmt: skip

_ENVIRONMENT = types("string") + good(
    id="{project}", prefixed="env_{project}", capitals="{PROJECT}", slug="one"
)
_ENVIRONMENT += bad(unknown="nowhere", missing="{none}", other_prefix="env-{project}", nul="a\0")

_CONFIG = types("object") + REQUIRED
_CHANNEL: dict[str, Cases] = {
    "name": text(1, 128) + REQUIRED,
    "channel_type": types("string") + REQUIRED
    + bad(unknown="pager", empty="", capitals="Webhook", line_end="webhook\n"),
    "config": _CONFIG + bad(empty={}),
    "event_types": patterns() + optional(),
    "enabled": ANYTHING,
    "id": ANYTHING,
    "env_name": ANYTHING,
}  # fmt: skip


def _hookstream() -> tuple[Row, ...]:
    webhook = {"name": "n", "channel_type": "webhook", "config": {"url": HOOK}}
    make = {"dialect": "hookstream", "method": "POST", "path": H, "success": 201, "token": "bound"}
    return (
        Row(
            **make,  # type: ignore[arg-type]
            body=webhook,
            text_field="name",
            fields=_CHANNEL
            | {
                "config.url": url(2048) + REQUIRED,
                "config.secret": text(1, 1024) + optional() + bad(mask=MASK, masked=f"a{MASK}"),
                "config.webhook_url": bad(text=HOOK, null=None),
                "config.send_token": bad(true=True),
                "config.signing_secret": bad(text="x"),
                "config.unknown": bad(text="x", null=None),
                "env_id": types("string") + optional() + good(own="{project}", slug="one")
                + bad(other="{second}", other_slug="two", missing="{none}"),
                "org_id": types("string") + optional() + good(ignored="{none}", text="x"),
            },
        ),
        Row(
            **make,  # type: ignore[arg-type]
            note="slack",
            body={"name": "n", "channel_type": "slack", "config": {"webhook_url": HOOK}},
            text_field="name",
            fields={
                "config.webhook_url": url(2048) + null(ok=False),
                "config.url": bad(both=HOOK),
                "config.team": bad(text="x"),
                "config.secret": bad(text="x"),
            },
        ),
        Row(
            **make | {"token": "admin"},  # type: ignore[arg-type]
            note="organization-wide",
            body=webhook | {"env_id": "{project}"},
            text_field="name",
            fields={"env_id": _ENVIRONMENT + REQUIRED + bad(empty="")},
        ),
        Row(
            **make | {"token": "operator"},  # type: ignore[arg-type]
            note="operator",
            body=webhook | {"env_id": "{project}", "org_id": "{org}"},
            text_field="name",
            fields={
                "org_id": types("string") + REQUIRED
                + good(prefixed="org_{org}", capitals="{ORG}", slug="{slug}")
                + bad(missing="{none}", unknown="nowhere", astral=ASTRAL, nul="a\0", empty=""),
            },
        ),
        Row(
            dialect="hookstream",
            method="GET",
            path=H,
            success=200,
            query={
                "limit": number(1, 100),
                "cursor": listed(("",), ok=True)
                + listed(("x", "A" * 16, "A" * 48, "%00"), ok=False),
                "env_id": listed(("{project}", "env_{project}", "one", ""), ok=True)
                + listed(("{none}", "nowhere", "%00"), ok=False),
                "org_id": listed(("{none}", "x"), ok=True),
            },
        ),
        Row(
            dialect="hookstream",
            method="GET",
            path=H,
            note="operator",
            token="operator",
            success=200,
            query={
                "org_id": listed(("{org}", "org_{org}", "{slug}"), ok=True)
                + absent(ok=False) + listed(("", "{none}", "%00", "%F0%9F%98%80"), ok=False),
            },
        ),
        Row(dialect="hookstream", method="GET", path=H + "/{channel}", success=200),
    )  # fmt: skip


def _rows() -> tuple[Row, ...]:
    return (*_applivery(A, whole=False), *_applivery(O, whole=True), *_hookstream())


ROWS: tuple[Row, ...] = _rows()
