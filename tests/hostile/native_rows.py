"""Every native call, field by field: `wire/native.md` and the Limits of `GUARANTEES.md`."""

from typing import Any

from tests.hostile.registry import Row
from tests.hostile.rules import (
    ASTRAL,
    REQUIRED,
    TIMES_REFUSED,
    Case,
    Cases,
    Raw,
    absent,
    bad,
    flag,
    good,
    listed,
    moment,
    null,
    number,
    optional,
    patterns,
    slug,
    text,
    types,
    url,
    whole,
    words,
)
from tests.hostile.world import API, HOOK

ONE = API + "/{org}"
MASK = "\u2022\u2022\u2022\u2022"
KEPT = absent(ok=True) + null(ok=False)
"""Of a change: left out it stays, and there is no default that null could mean."""

NAME = text(1, 128)
PROJECT = types("string") + good(id="{project}", slug="one", capitals="ONE")
PROJECT += bad(unknown="nowhere", empty="", missing="{none}", nul="a\0b", long="x" * 10_000)

PAGING: dict[str, Cases] = {
    "limit": number(1, 200),
    "cursor": listed(("",), ok=True)
    + listed(("x", "%00", "%F0%9F%98%80", "=", "A" * 16, "A" * 48, "A" * 400, "{event}"), ok=False),
}
PROJECT_QUERY = listed(("{project}", "one", "ONE", ""), ok=True)
PROJECT_QUERY += listed(("nowhere", "{none}", "%00", "x" * 5000), ok=False)

DURATIONS_REFUSED: tuple[Any, ...] = ("", "0s", "05s", "5", "5x", "5S", "-5s", "+5s", "5 s", "5s ")
DURATIONS_REFUSED += (
    "5s\n",
    "1.5s",
    "\uff15s",
    "s",
    "8d",
    "169h",
    "604801s",
    "9" * 30 + "s",
    5,
    None,
)

RETRY = (
    types("object")
    + good(none={"schedule": []}, one={"schedule": ["1s"]}, longest={"schedule": ["7d"]})
    + good(most={"schedule": ["1s"] * 20}, eleven_days={"schedule": ["7d", "4d"]})
    + bad(too_many={"schedule": ["1s"] * 21}, too_long={"schedule": ["7d", "4d", "1s"]})
    + bad(empty={}, unknown={"schedule": [], "x": 1}, text={"schedule": "5s"})
    + bad(null_schedule={"schedule": None}, jitter={"schedule": [], "jitter": 0.1})
    + tuple(
        Case(f"step {one!r}"[:50], {"schedule": ["1s", one]}, False) for one in DURATIONS_REFUSED
    )
)

RATE = (
    types("object")
    + good(least={"count": 1, "per_seconds": 1}, most={"count": 10_000, "per_seconds": 1})
    + good(slowest={"count": 1, "per_seconds": 86_400})
    + bad(count_0={"count": 0, "per_seconds": 1}, seconds_0={"count": 1, "per_seconds": 0})
    + bad(too_fast={"count": 10_001, "per_seconds": 1})
    + bad(long={"count": 1_000, "per_seconds": 86_401}, empty={}, no_count={"per_seconds": 1})
    + bad(no_seconds={"count": 1}, unknown={"count": 1, "per_seconds": 1, "burst": 2})
    + bad(fraction={"count": 1.5, "per_seconds": 1}, boolean={"count": True, "per_seconds": 1})
    + bad(string={"count": "1", "per_seconds": 1}, null_count={"count": None, "per_seconds": 1})
    + bad(huge={"count": 10**30, "per_seconds": 1})
)

BREAKER = (
    types("object")
    + good(empty={}, least={"failures": 1, "cooldown_seconds": 1}, one_member={"failures": 7})
    + good(most={"failures": 100, "cooldown_seconds": 86_400})
    + bad(failures_0={"failures": 0}, failures_101={"failures": 101}, unknown={"x": 1})
    + bad(cooldown_0={"cooldown_seconds": 0}, cooldown_86401={"cooldown_seconds": 86_401})
    + bad(fraction={"failures": 1.5}, boolean={"failures": True}, string={"failures": "5"})
)


def _condition(**members: Any) -> list[Any]:
    return [{"field": "a", "op": "eq", "value": 1} | members]


FILTER = (
    types("array")
    + good(none=[], most=_condition() * 20, deepest=_condition(field=".".join("a" * 10)))
    + good(
        index=_condition(field="a.0"), null_value=_condition(value=None), any=_condition(value={})
    )
    + good(exists=_condition(op="exists", value=False), one_of=_condition(op="in", value=[1] * 100))
    + good(**{op: _condition(op=op) for op in ("neq", "contains", "gt", "gte", "lt", "lte")})
    + bad(too_many=_condition() * 21, too_deep=_condition(field=".".join("a" * 11)))
    + bad(too_many_values=_condition(op="in", value=[1] * 101), no_array=_condition(op="in"))
    + bad(
        exists_number=_condition(op="exists", value=1),
        exists_null=_condition(op="exists", value=None),
    )
    + bad(
        op_unknown=_condition(op="like"),
        op_capitals=_condition(op="EQ"),
        op_null=_condition(op=None),
    )
    + bad(op_line_end=_condition(op="eq\n"), field_number=_condition(field=1))
    + bad(field_empty=_condition(field=""), field_dots=_condition(field="a..b"))
    + bad(field_nul=_condition(field="a\0"), unknown=_condition(x=1), string=["a"], null=[None])
    + bad(no_field=[{"op": "eq", "value": 1}], no_op=[{"field": "a", "value": 1}])
    + bad(no_value=[{"field": "a", "op": "eq"}])
)

_NAMES_REFUSED = (
    *("host", "Host", "content-length", "content-type", "transfer-encoding", "connection"),
    *(
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "proxy-connection",
        "Proxy-Authorization",
    ),
    *("proxy-x", "accept-encoding", "user-agent", "webhook-id", "Webhook-X", "tocsin-delivery"),
    *("tocsin-x", "x-hookstream-signature", "X-Applivery-Token", "http2-settings"),
    *(
        "",
        " ",
        "a b",
        "a:b",
        "a\r\nb",
        "a\n",
        "a\0b",
        "\u00e9",
        ASTRAL,
        "a(b",
        'a"b',
        "a/b",
        "x" * 129,
    ),
)
_VALUES_REFUSED: tuple[Any, ...] = ("", "a\rb", "a\nb", "a\r\nx: y", "a\0b", "a\x1bb", "\x7f")
_VALUES_REFUSED += (MASK, f"a{MASK}", 1, True, [], {}, "x" * 4097)

HEADERS = (
    types("object")
    + good(none={}, most={f"x-{n}": "v" for n in range(20)}, token={"!#$%&'*+-.^_`|~09aZ": "v"})
    + good(
        unicode={"x": f"\u00e9{ASTRAL}"},
        tab={"x": "a\tb"},
        authorization={"Authorization": "Bearer x"},
    )
    + good(cookie={"Cookie": "a=b"}, longest={"x" * 128: "v" * 4096})
    + bad(too_many={f"x-{n}": "v" for n in range(21)}, twice={"X-A": "1", "x-a": "2"})
    + tuple(Case(f"name {one!r}"[:60], {one: "v"}, False) for one in _NAMES_REFUSED)
    + tuple(Case(f"value {one!r}"[:60], {"x": one}, False) for one in _VALUES_REFUSED)
)

SECONDS = (
    types("number")
    + good(least=1, most=30, fraction=1.5, decimal=Raw(b"30.0"), exponent=Raw(b"3e1"))
    + bad(zero=0, below=0.999, above=30.001, negative=-1, huge=1e300, string="15")
)

_BASIC = {"type": "basic", "username": "u", "password": "p"}
_BEARER = {"type": "bearer", "token": "t"}
AUTH = (
    types("object")
    + good(basic=_BASIC, bearer=_BEARER, token_68={"type": "bearer", "token": "aZ09-._~+/=="})
    + good(longest=_BASIC | {"username": "u" * 256, "password": ASTRAL * 1024})
    + good(longest_token=_BEARER | {"token": "t" * 4000})
    + bad("settings.auth.type", empty={}, other={"type": "digest"}, null_type={"type": None})
    + bad("settings.auth.username", colon=_BASIC | {"username": "a:b"})
    + bad("settings.auth.username", no_user=_BASIC | {"username": ""})
    + bad("settings.auth.username", long_user=_BASIC | {"username": "u" * 257})
    + bad("settings.auth.username", user_line=_BASIC | {"username": "a\nb"})
    + bad("settings.auth.username", user_nul=_BASIC | {"username": "a\0b"})
    + bad("settings.auth.password", no_password=_BASIC | {"password": ""})
    + bad("settings.auth.password", null_password=_BASIC | {"password": None})
    + bad("settings.auth.password", long_password=_BASIC | {"password": "p" * 1025})
    + bad("settings.auth.password", password_line=_BASIC | {"password": "a\r\nb"})
    + bad("settings.auth.token", both=_BASIC | {"token": "t"}, no_token={"type": "bearer"})
    + bad("settings.auth.token", empty_token=_BEARER | {"token": ""})
    + bad("settings.auth.token", long_token=_BEARER | {"token": "t" * 4001})
    + bad("settings.auth.token", blank=_BEARER | {"token": "a b"})
    + bad("settings.auth.token", line=_BEARER | {"token": "a\r\nx: y"})
    + bad("settings.auth.token", not_ascii=_BEARER | {"token": "\u00e9"})
    + bad(mask=MASK, masked=_BASIC | {"password": MASK}, masked_token=_BEARER | {"token": MASK})
)

# Good ones need a target of https; tests/channels has them.
_PAIR = {"certificate": "c", "private_key": "k"}
CERTIFICATE = (
    types("object")
    + bad(plain_http=_PAIR)
    + bad("settings.client_certificate.certificate", empty={})
    + bad("settings.client_certificate.certificate", no_certificate=_PAIR | {"certificate": ""})
    + bad("settings.client_certificate.certificate", long=_PAIR | {"certificate": "c" * 16_385})
    + bad("settings.client_certificate.certificate", nul=_PAIR | {"certificate": "a\0"})
    + bad("settings.client_certificate.private_key", no_key={"certificate": "c"})
    + bad("settings.client_certificate.private_key", null_key=_PAIR | {"private_key": None})
    + bad("settings.client_certificate.private_key", long_key=_PAIR | {"private_key": "k" * 16_385})
    + bad("settings.client_certificate.password", unknown=_PAIR | {"password": "x"})
    + bad(mask=MASK, masked=_PAIR | {"private_key": MASK})
)

WEBHOOK: dict[str, Cases] = {
    "settings.url": url(2048) + REQUIRED,
    "settings.send_token": flag() + optional(),
    "settings.signing_secret": text(1, 1024) + optional() + bad(mask=MASK, masked=f"a{MASK}"),
    "settings.auth": AUTH + optional(),
    "settings.client_certificate": CERTIFICATE + optional(),
    "settings.asymmetric_signature": flag() + optional(),
    "settings.unknown": bad(text="x", null=None),
}

PLAIN: dict[str, Cases] = {
    "description": text(0, 1024) + optional(),
    "event_types": patterns() + optional(),
    "filter": FILTER + optional(),
    "enabled": flag() + optional(),
    "headers": HEADERS + optional(),
    "format": words("tocsin", "cloudevents", "applivery", "hookstream") + optional(),
    "retry": RETRY + optional(),
    "timeout_seconds": SECONDS + optional(),
    "rate_limit": RATE + optional(),
    "max_in_flight": whole(1, 1000) + optional(),
    "ordered": flag() + optional(),
    "breaker": BREAKER + optional(),
}
READ_ONLY = (
    *("id", "organization_id", "project_id", "status", "disabled_reason", "last_sent_at"),
    *("error_count", "last_error", "created_at", "updated_at", "secret", "public_key"),
)
UNKNOWN: dict[str, Cases] = {name: bad(text="x", null=None) for name in READ_ONLY}

CHANNEL = {"name": "n", "type": "webhook", "settings": {"url": HOOK}}
CHANNEL_FIELDS = (
    {
        "name": NAME + REQUIRED,
        "type": types("string")
        + REQUIRED
        + bad(unknown="pager", empty="", capitals="Webhook", nul="a\0"),
        "settings": types("object") + REQUIRED + bad("settings.url", empty={}),
        "project": PROJECT + optional(),
        "backlog": bad(cancel="cancel", null=None),
    }
    | WEBHOOK
    | PLAIN
    | UNKNOWN
)
CHANGE_FIELDS = (
    {
        "name": NAME + KEPT,
        "settings": types("object") + absent(ok=True) + null(ok=False) + good(empty={}),
        "type": bad(same="webhook", other="slack", null=None),
        "project": bad(same="{project}", null=None),
        "backlog": types("string")
        + absent(ok=True)
        + null(ok=False)
        + bad(other="drop", alone="cancel"),
    }
    | WEBHOOK
    | {"settings.url": url(2048) + KEPT}
    | PLAIN
    | UNKNOWN
)

KEY = types("string") + good(shortest="k", longest="k" * 256, longest_astral=ASTRAL * 256)
KEY += good(punctuation="a b-c:d/\u00e9") + bad(
    empty="", too_long="k" * 257, line="a\nb", nul="a\0"
)
KEY += bad(
    too_long_astral=ASTRAL * 257, tab="a\tb", escape="\x1b", direction="\u202e", line_end="k\n"
)

MOMENTS = good(
    zulu="2026-11-21T22:04:00Z",
    small="2026-11-21t22:04:00z",
    zero_offset="2026-11-21T22:04:00-00:00",
)
MOMENTS += good(offset="2026-11-21T22:04:00.123456789+05:30", first="2000-01-01T00:00:00Z")
OCCURRED = (
    types("string")
    + MOMENTS
    + listed(TIMES_REFUSED, ok=False)
    + listed(
        (
            *("1999-12-31T23:59:59.999Z", "2999-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            *("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"),
        ),
        ok=False,
    )
)

FUTURE = types("string") + good(far="9999-12-31T23:59:59.999Z", offset="2099-01-01T00:00:00+14:00")
PAST = types("string") + good(offset="2026-01-01T00:00:00+01:00", first="0001-01-01T00:00:00Z")
PAST += listed(TIMES_REFUSED, ok=False)
FUTURE += listed((*TIMES_REFUSED, "2020-01-01T00:00:00Z"), ok=False)
FUTURE += bad(beyond_the_calendar="9999-12-31T23:59:59-14:00", before="0001-01-01T00:00:00+14:00")

TYPE = types("string") + good(
    shortest="a", longest="x" * 128, all="A_9.b-c.D_", dash=f"a.{'-' * 126}"
)
_TYPES_REFUSED = ("", "x" * 129, "a.", ".a", "a..b", "-a", "a-b", "a b", "a.b\n", "a\0", "*", "a.*")
TYPE += listed(_TYPES_REFUSED, ok=False)
TYPE += bad(cyrillic="\u0430", astral=ASTRAL, own="tocsin.x", test="tocsin.test", alert="alert.x")

DATA = (
    absent(ok=False)
    + null(ok=True)
    + good(text="x", number=1.5, true=True, array=[], object={}, nul={"a\0b": "\0"})
    + good(deep=Raw(b"[" * 64 + b"]" * 64), deep_objects=Raw(b'{"a":' * 63 + b"{}" + b"}" * 63))
    + good(digits=Raw(b"9" * 308), small=Raw(b"1e-400"), twice=Raw(b'{"a":1,"a":2}'))
    + good(brackets=Raw(b'"' + b"[{" * 100 + b'"'), pair=Raw(b'"\\ud83d\\ude00"'))
)
"""What is no acceptable JSON has no field: see `test_json.py`."""

FIELDS = types("object") + good(none={}, some={"a": "b"}, longest={"n" * 256: "v" * 1024})
FIELDS += good(most={f"f{n}": "v" for n in range(50)})
FIELDS += bad(too_many={f"f{n}": "v" for n in range(51)}, number={"a": 1}, null={"a": None})
FIELDS += bad(long_name={"n" * 257: "v"}, long_value={"a": "v" * 1025}, inner={"a": {}})

LINKS = (
    "http://x",
    "https://example.com/a?b=c#d",
    "HTTPS://EXAMPLE.COM",
    "https://x/".ljust(2048, "x"),
)
LINKS_REFUSED: tuple[str, ...] = (
    "/x",
    "x",
    "javascript:alert(1)",
    "ftp://x/",
    "http://",
    "http://a b",
    "http://a\n",
)
LINKS_REFUSED += ("http://a\0", "mailto:a@b", "data:text/html,x", "https://x/".ljust(2049, "x"))

CHANNEL_IDS = types("array") + good(
    one=["{channel}"], capitals=["{CHANNEL}"], twice=["{channel}"] * 2
)
CHANNEL_IDS += good(most=["{channel}"] * 1000, whole=["{whole}"], elsewhere=["{elsewhere}"])
CHANNEL_IDS += bad(
    none=[], too_many=["{channel}"] * 1001, unknown=["{none}"], slug=["n"], empty=[""]
)
CHANNEL_IDS += bad(
    number=[1], null_inside=[None], prefixed=["chan_{channel}"], of_another=["{foreign}"]
)

EVENT_FIELDS: dict[str, Cases] = {
    "type": TYPE + REQUIRED,
    "data": DATA,
    "project": PROJECT + optional(),
    "idempotency_key": KEY + optional(),
    "occurred_at": OCCURRED + optional(),
    "channel_ids": CHANNEL_IDS + optional(),
    "title": text(0, 256, controls=True) + optional(),
    "text": text(0, 4096, controls=True) + optional(),
    "severity": words("info", "warning", "error", "critical") + optional(),
    "link": types("string") + listed(LINKS, ok=True) + listed(LINKS_REFUSED, ok=False) + optional(),
    "fields": FIELDS + optional(),
    "id": bad(text="x"),
}

NAMED = {"name": NAME + REQUIRED, "slug": slug("a") + optional(), "id": bad(text="x")}
RENAMED = {
    "name": NAME + KEPT,
    "slug": slug("b") + KEPT,
    "id": bad(text="x"),
    "project": bad(null=None),
}

GRANTS = types("array") + good(
    none=[], some=["*", "channel.*", "*.list", "a.b-c_d"], most=["a"] * 100
)
GRANTS += good(longest=["x" * 128], deepest=[".".join("a" * 10)])
GRANTS += bad(too_many=["a"] * 101, empty=[""], dots=["a..b"], partial=["chan*"], line_end=["a\n"])
GRANTS += bad(nul=["a\0"], number=[1], null_inside=[None], too_long=["x" * 129], space=["a b"])
GRANTS += bad(deep=[".".join("a" * 11)], cyrillic=["\u0430"])

KEYS: dict[str, Cases] = {
    "name": NAME + REQUIRED,
    "role": words("admin", "developer", "viewer") + optional(),
    "permissions": GRANTS + optional(),
    "project": PROJECT + optional(),
    "expires_at": FUTURE + optional(),
    "token": bad(text="x"),
}

STATUSES = ("waiting", "sending", "delivered", "exhausted", "rejected", "cancelled", "grouped")


def _row(method: str, path: str, success: int = 200, **more: Any) -> Row:
    return Row(dialect="native", method=method, path=path, success=success, **more)


def _list(path: str, **query: Cases) -> Row:
    return _row("GET", ONE + path, query=PAGING | query)


PERIOD = {"after": moment(), "before": moment()}
# Of a short period: the other end is now, and a reply has at most 1,500 buckets.
STATISTICS_AFTER = listed(("",), ok=True) + listed(
    ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "x", "%00", "2026-11-21"), ok=False
)
TYPE_QUERY = listed(("a.b", "", "anything", "x" * 5000, "%F0%9F%98%80"), ok=True) + listed(
    ("%00",), ok=False
)

ROWS = (
    _row("POST", API, 201, body={"name": "n"}, fields=NAMED, text_field="name",
         token="operator"),
    _row("GET", API, query=PAGING, token="operator"),
    _row("GET", ONE),
    _row("PATCH", ONE, body={"name": "n"}, fields=RENAMED, text_field="name"),
    _row("DELETE", ONE, 202,
         query={"confirm": absent(ok=False) + listed(("", "x", "{org}", "{slug}%00"), ok=False)}),
    _row("POST", ONE + "/projects", 201, body={"name": "n"}, fields=NAMED,
         text_field="name"),
    _list("/projects"),
    _row("GET", ONE + "/projects/{project}"),
    _row("PATCH", ONE + "/projects/{project}", body={"name": "n"}, fields=RENAMED,
         text_field="name"),
    _row("DELETE", ONE + "/projects/{project}", 204),
    _row("POST", ONE + "/keys", 201, body={"name": "n"}, fields=KEYS,
         text_field="name"),
    _list("/keys"),
    _row("DELETE", ONE + "/keys/{key}", 204),
    _row("POST", ONE + "/channels", 201, body=CHANNEL, fields=CHANNEL_FIELDS, text_field="name"),
    _row("POST", ONE + "/channels", 201, note="slack", text_field="name",
         body={"name": "n", "type": "slack", "settings": {"url": HOOK}},
         fields={
             "settings.url": url(2048) + REQUIRED,
             "settings.team": text(1, 256) + optional(),
             "settings.channel": text(1, 256) + optional(),
             "settings.signing_secret": bad(text="x"),
             "headers": types("object") + optional() + bad(none={}, one={"x": "y"}),
             "format": types("string") + optional() + bad(tocsin="tocsin"),
         }),
    _row("POST", ONE + "/channels", 201, note="ordered", text_field="name",
         body=CHANNEL | {"ordered": True},
         fields={"breaker": optional() + bad(empty={}, default={"failures": 5})}),
    _list("/channels"),
    _row("GET", ONE + "/channels/{channel}"),
    _row("PATCH", ONE + "/channels/{channel}", body={"name": "n"}, fields=CHANGE_FIELDS,
         text_field="name", reset={"headers": None}),
    _row("PATCH", ONE + "/channels/{channel}", body={"name": "n", "enabled": True}, note="enabling",
         fields={"backlog": good(cancel="cancel") + bad(other="drop", empty="", null=None)},
         text_field="name"),
    _row("PATCH", ONE + "/channels/{channel}", body={"name": "n", "enabled": False},
         note="disabling", fields={"backlog": bad(cancel="cancel")}, text_field="name"),
    _row("DELETE", ONE + "/channels/{channel}", 204),
    _row("GET", ONE + "/channels/{channel}/secret"),
    _row("POST", ONE + "/channels/{channel}/rotate-secret", body={"overlap_seconds": 60},
         fields={"overlap_seconds": whole(0, 604_800), "secret": bad(text="x")}),
    _row("POST", ONE + "/channels/{channel}/test"),
    _row("POST", ONE + "/channels/{channel}/recover", 202, body={"since": "2026-01-01T00:00:00Z"},
         fields={
             "since": PAST + REQUIRED + bad(future="9999-12-31T23:59:59Z"),
             "until": types("string") + optional() + listed(TIMES_REFUSED, ok=False)
             + good(later="9999-12-31T23:59:59Z")
             + bad(same="2026-01-01T00:00:00Z", before="2025-12-31T23:59:59.999Z"),
             "statuses": types("array") + optional()
             + good(one=["rejected"], both=["rejected", "exhausted"], twice=["rejected"] * 2)
             + bad(none=[], other=["delivered"], waiting=["exhausted", "waiting"], number=[1],
                   null_inside=[None], capitals=["Exhausted"]),
         }),
    _row("GET", "/api/v1/channel-types"),
    _row("POST", ONE + "/events", 202, body={"type": "a.b", "data": 1}, fields=EVENT_FIELDS,
         text_field="title"),
    _row("POST", ONE + "/events", 202, body={"type": "a.b", "data": 1}, note="bound", token="bound",
         fields={
             "project": good(own="{project}", slug="one") + optional()
             + bad(other="{second}", slug_2="two"),
             "channel_ids": good(own=["{channel}"]) + bad(other=["{elsewhere}"], whole=["{whole}"]),
         }, text_field="title"),
    _row("POST", ONE + "/events/batch", 202, body={"events": [{"type": "a.b", "data": 1}]},
         fields={
             "events": types("array") + REQUIRED + bad(none=[])
             + good(most=[{"type": "a.b", "data": 1}] * 1000)
             + bad(too_many=[{"type": "a.b", "data": 1}] * 1001),
             "idempotency_key": bad(text="x"),
         }),
    _list("/events", type=TYPE_QUERY, project=PROJECT_QUERY, **PERIOD),
    _row("GET", ONE + "/events/{event}"),
    _list("/deliveries", event_type=TYPE_QUERY, project=PROJECT_QUERY,
          channel=listed(("{channel}", "{CHANNEL}", "{none}", ""), ok=True)
          + listed(("x", "chan_{channel}", "{channel}0", "%00"), ok=False),
          status=listed(STATUSES, ok=True)
          + listed(("", "Waiting", "done", "waiting%0A", "waiting,sending", "%00"), ok=False),
          **PERIOD),
    _row("GET", ONE + "/deliveries/{delivery}"),
    _list("/attempts"),
    _row("GET", ONE + "/stats", query={
        "channel": listed(("{channel}", "{CHANNEL}", ""), ok=True)
        + listed(("{none}", "x", "chan_{channel}", "{channel}0", "%00"), ok=False),
        "project": PROJECT_QUERY,
        "bucket": listed(("minute", "hour", "day"), ok=True)
        + listed(("", "week", "Hour", "60", "hour%0A", "%00"), ok=False),
        "after": STATISTICS_AFTER,
        "before": moment(),
    }),
    _row("POST", "/api/v1/backup", 202, token="operator"),
    _row("GET", "/api/v1/backup", token="operator"),
    _row("POST", "/api/v1/master-key/rotate", 202, token="operator"),
    _row("GET", "/api/v1/master-key/rotate", token="operator"),
    _row("POST", ONE + "/deliveries/{delivery}/retry", 409),
    _list("/jobs"),
    _row("GET", ONE + "/jobs/{none}", 404),
    _row("DELETE", ONE + "/jobs/{none}", 404),
)  # fmt: skip
