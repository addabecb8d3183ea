"""Every call of the Applivery dialect, field by field, by its contract; hookstream's besides."""

from tests.hostile import hookstream_rows
from tests.hostile.registry import Row
from tests.hostile.rules import (
    ANYTHING,
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
    text,
    types,
    url,
)
from tests.hostile.world import HOOK

A = "/v1/organizations/{org}/apps/{project}/notifications"
O = "/v1/organizations/{org}/notifications"  # noqa: E741 - the contract's name

_SMALL = ("buildCreated", "buildProcessed", "feedbackCreated", "certificateWillExpire")
_LARGE = (
    "applePushRenovation",
    "inventoryItemRegistered",
    *(f"{os}EnrollmentCreated" for os in ("emm", "adm", "win", "aos")),
    *(f"{os}DeviceCreated" for os in ("emm", "adm", "win", "aos")),
    *(f"{os}DeviceChangedMdmUser" for os in ("emm", "adm", "win", "aos")),
)


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


def _rows() -> tuple[Row, ...]:
    return (*_applivery(A, whole=False), *_applivery(O, whole=True))


ROWS: tuple[Row, ...] = (*_rows(), *hookstream_rows.ROWS)
