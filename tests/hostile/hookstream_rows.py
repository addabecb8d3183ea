"""Every call of the hookstream dialect, field by field, by its contract."""

from typing import Any

from tests.hostile.alert_rows import CHANGE, CONFIGS, NEW, OF_TYPE, RULE, RULES
from tests.hostile.registry import Row
from tests.hostile.rules import (
    ANYTHING,
    ASTRAL,
    REQUIRED,
    Cases,
    Raw,
    absent,
    bad,
    good,
    listed,
    null,
    number,
    optional,
    patterns,
    slug,
    text,
    types,
    url,
    words,
)
from tests.hostile.world import HOOK

H = "/v1/notification-channels"
KEYS = "/v1/auth/api-keys"
ENVIRONMENTS = "/v1/environments"
ISSUES = "/v1/issues"
MASK = "\u2022\u2022\u2022\u2022"

_ENVIRONMENT = types("string") + good(
    id="{project}", prefixed="env_{project}", capitals="{PROJECT}", slug="one"
)
_ENVIRONMENT += bad(unknown="nowhere", missing="{none}", other_prefix="env-{project}", nul="a\0")

_ENVIRONMENTS_ASKED = listed(("{project}", "env_{project}", "{PROJECT}", "one"), ok=True)
_ENVIRONMENTS_ASKED += listed(("{none}", "nowhere", "env-{project}", "%00"), ok=False)
_ORGANIZATION = types("string") + good(prefixed="org_{org}", capitals="{ORG}", slug="{slug}")
_ORGANIZATION += bad(missing="{none}", unknown="nowhere", astral=ASTRAL, nul="a\0", empty="")
_ORGANIZATIONS_ASKED = listed(("{org}", "org_{org}", "{slug}"), ok=True)
_ORGANIZATIONS_ASKED += listed(("{none}", "nowhere", "%00", "%F0%9F%98%80"), ok=False)
_OF_ITS_OWN: dict[str, Cases] = {
    "env_id": types("string")
    + optional()
    + good(own="{project}", slug="one")
    + bad(other="{second}", other_slug="two", missing="{none}"),
    "org_id": types("string") + optional() + good(ignored="{none}", text="x"),
}
_OF_ITS_OWN_ASKED: dict[str, Cases] = {
    "env_id": listed(("{project}", "one", ""), ok=True)
    + listed(("{second}", "two", "{none}", "%00"), ok=False),
    "org_id": listed(("{none}", "x"), ok=True),
}
_KEPT = absent(ok=True) + null(ok=False)

_SCOPES = (
    types("string")
    + optional()
    + good(
        all="*",
        spaced=" * ",
        grants="channel.* *.list",
        longest="x." * 9 + "x" * 110,
        most=" ".join(["channel.get"] * 100),
    )
)
_SCOPES += bad(
    empty="",
    blank="   ",
    comma="channel.get,channel.list",
    half="chan*",
    nul="a\0",
    too_many=" ".join(["a"] * 101),
    too_long_a_grant="x" * 129,
    too_long="x " * 2049,
    astral=ASTRAL,
)

_NEW_CHANNEL: dict[str, Cases] = {
    "name": text(1, 128) + REQUIRED,
    "channel_type": types("string")
    + REQUIRED
    + bad(unknown="pager", empty="", capitals="Webhook", line_end="webhook\n"),
    "config": types("object") + REQUIRED + bad(empty={}),
    "event_types": patterns() + optional(),
    "enabled": ANYTHING,
    "id": ANYTHING,
    "env_name": ANYTHING,
    "config.url": url(2048) + REQUIRED,
    "config.secret": text(1, 1024) + optional() + bad(mask=MASK, masked=f"a{MASK}"),
    "config.webhook_url": bad(text=HOOK, null=None),
    "config.send_token": bad(true=True),
    "config.signing_secret": bad(text="x"),
    "config.unknown": bad(text="x", null=None),
}
_CHANNEL: dict[str, Cases] = {
    "name": text(1, 128) + _KEPT,
    "config": types("object") + _KEPT + bad(empty={}),
    "config.url": url(2048) + REQUIRED,
    "config.secret": text(1, 1024) + optional() + bad(mask=MASK, masked=f"a{MASK}"),
    "config.webhook_url": bad(text=HOOK, null=None),
    "config.send_token": bad(true=True),
    "config.signing_secret": bad(text="x"),
    "config.unknown": bad(text="x", null=None),
    "enabled": types("boolean", "integer") + _KEPT + good(true=True, false=False, zero=0, one=1)
    + bad(two=2, below=-1, decimal=Raw(b"1.0"), huge=10**30, word="true"),
    "event_types": patterns() + optional(),
    "channel_type": types("string") + _KEPT + good(same="webhook")
    + bad(other="slack", capitals="Webhook", unknown="pager", empty=""),
    "type": ANYTHING,
    "env_id": ANYTHING,
    "project": ANYTHING,
    "id": ANYTHING,
}  # fmt: skip


def _row(method: str, path: str, success: int = 200, **more: Any) -> Row:
    return Row(dialect="hookstream", method=method, path=path, success=success, **more)


def _list(path: str, **query: Cases) -> tuple[Row, ...]:
    paging = {
        "limit": number(1, 100),
        "cursor": listed(("",), ok=True) + listed(("x", "A" * 16, "A" * 48, "%00"), ok=False),
    }
    ignored = {"org_id": listed(("{none}", "x"), ok=True)}
    asked = {"org_id": _ORGANIZATIONS_ASKED + absent(ok=False) + listed(("",), ok=False)}
    return (
        _row("GET", path, query=paging | ignored | query),
        _row("GET", path, note="operator", token="operator", query=asked),
    )


def _made_in_an_environment(path: str, body: dict[str, Any]) -> tuple[Row, ...]:
    """Which environment it is made in, for each kind of credential; in the body and the query."""

    def row(note: str, token: str, more: dict[str, Any], asked: str = "", **rules: Any) -> Row:
        return _row("POST", path + asked, 201, note=note, token=token, body=body | more, **rules)

    env, org = {"env_id": "{project}"}, {"org_id": "{org}"}
    required = absent(ok=False) + listed(("",), ok=False)
    return (
        row("bound", "bound", {}, fields=_OF_ITS_OWN, query=_OF_ITS_OWN_ASKED, text_field="name"),
        row(
            "organization-wide",
            "admin",
            env,
            fields={"env_id": _ENVIRONMENT + REQUIRED + bad(empty="")},
            text_field="name",
        ),
        row(
            "asked",
            "admin",
            {},
            "?env_id={project}",
            query={"env_id": _ENVIRONMENTS_ASKED + required},
        ),
        row(
            "operator",
            "operator",
            env | org,
            fields={"org_id": _ORGANIZATION + REQUIRED},
            text_field="name",
        ),
        row(
            "operator asked",
            "operator",
            env,
            "?org_id={org}",
            query={"org_id": _ORGANIZATIONS_ASKED + required},
        ),
    )


WEBHOOK = {"name": "n", "channel_type": "webhook", "config": {"url": HOOK}}
SLACK = {"name": "n", "channel_type": "slack", "config": {"webhook_url": HOOK}}
_ENV_ASKED = listed(("{project}", "env_{project}", "one", ""), ok=True) + listed(
    ("{none}", "nowhere", "%00"), ok=False
)

_ONE_ORGANIZATION = {"org_id": _ORGANIZATIONS_ASKED + absent(ok=False) + listed(("",), ok=False)}
_ISSUES_ASKED: dict[str, Cases] = {
    "status": listed(("open", "acknowledged", "resolved", "all"), ok=True)
    + listed(("", "OPEN", "closed", "open%0A", "open,resolved", "%00"), ok=False),
    "destination_id": listed(
        ("{channel}", "ch_{channel}", "{CHANNEL}", "{elsewhere}", "{none}", ""), ok=True
    )
    + listed(("nowhere", "ch-{channel}", "{channel}0", "%00", "%F0%9F%98%80"), ok=False),
    "limit": number(1, 100),
    "offset": number(0, 999_999_999),
    "env_id": _ENV_ASKED,
}
_ISSUE: dict[str, Cases] = {
    "status": words("open", "acknowledged", "resolved") + _KEPT + bad(all="all"),
    "snoozed_until": types("string")
    + optional()
    + good(year="9999-12-31T23:59:59Z", offset="2999-01-01T00:00:00.123456+14:00")
    + bad(past="2020-01-01T00:00:00Z", first="0001-01-01T00:00:00Z", empty="", day="2999-01-01")
    + bad(naive="2999-01-01T00:00:00", none="2999-02-30T00:00:00Z", word="tomorrow")
    + bad(line_end="2999-01-01T00:00:00Z\n", nul="2999-01-01T00:00:00Z\0", astral=ASTRAL)
    + bad(number_text="4102444800"),
    "note": ANYTHING,
    "id": ANYTHING,
}  # fmt: skip

ROWS: tuple[Row, ...] = (
    _row("POST", H, 201, token="bound", body=WEBHOOK, fields=_NEW_CHANNEL, text_field="name"),
    _row("POST", H, 201, token="bound", note="slack", body=SLACK, text_field="name",
         fields={
             "config.webhook_url": url(2048) + null(ok=False),
             "config.url": bad(both=HOOK),
             "config.team": bad(text="x"),
             "config.secret": bad(text="x"),
         }),
    *_made_in_an_environment(H, WEBHOOK),
    *_list(H, env_id=_ENV_ASKED),
    _row("GET", H + "/{channel}"),
    _row("PATCH", H + "/{channel}", body={"name": "n", "config": {"url": HOOK}},
         fields=_CHANNEL, text_field="name"),
    _row("DELETE", H + "/{channel}"),
    _row("POST", H + "/{channel}/test"),
    _row("POST", RULES, 201, token="bound", body=RULE, fields=NEW, text_field="name"),
    *(
        _row("POST", RULES, 201, token="bound", note=type, text_field="name",
             body=RULE | {"rule_type": type, "rule_config": config}, fields=OF_TYPE[type])
        for type, config in CONFIGS.items()
    ),
    *_made_in_an_environment(RULES, RULE),
    *_list(RULES, env_id=_ENV_ASKED),
    _row("GET", RULES + "/{rule}"),
    _row("PATCH", RULES + "/{rule}", body={"name": "n", "rule_config": {"threshold": 0}},
         fields=CHANGE, text_field="name"),
    _row("DELETE", RULES + "/{rule}"),
    _row("GET", ISSUES, query=_ISSUES_ASKED | {"org_id": listed(("{none}", "x"), ok=True)}),
    _row("GET", ISSUES, note="operator", token="operator", query=_ONE_ORGANIZATION),
    _row("GET", ISSUES + "/summary",
         query={"env_id": _ENV_ASKED, "org_id": listed(("{none}", "x"), ok=True)}),
    _row("GET", ISSUES + "/summary", note="operator", token="operator", query=_ONE_ORGANIZATION),
    _row("GET", ISSUES + "/{issue}"),
    _row("PATCH", ISSUES + "/{issue}", body={"status": "open"}, text_field="note",
         fields=_ISSUE),
    _row("POST", ISSUES + "/{issue}/retry"),
    _row("POST", KEYS, 201, token="bound", body={"name": "k"}, text_field="name",
         fields={"name": text(1, 128) + REQUIRED, "scopes": _SCOPES, "expires_at": ANYTHING}),
    *_made_in_an_environment(KEYS, {"name": "k", "scopes": "channel.list"}),
    *_list(KEYS, env_id=_ENV_ASKED),
    _row("DELETE", KEYS + "/{key}"),
    _row("POST", ENVIRONMENTS, 201, body={"name": "n"}, text_field="name",
         fields={
             "name": text(1, 128) + REQUIRED,
             "slug": slug("e") + optional(),
             "org_id": types("string") + optional() + good(ignored="{none}", text="x"),
             "id": ANYTHING,
         }),
    _row("POST", ENVIRONMENTS, 201, note="operator", token="operator", text_field="name",
         body={"name": "n", "org_id": "{org}"}, fields={"org_id": _ORGANIZATION + REQUIRED}),
    _row("POST", ENVIRONMENTS + "?org_id={org}", 201, note="operator asked", token="operator",
         body={"name": "n"},
         query={"org_id": _ORGANIZATIONS_ASKED + absent(ok=False) + listed(("",), ok=False)}),
    *_list(ENVIRONMENTS),
    _row("GET", ENVIRONMENTS + "/{environment}"),
    _row("PATCH", ENVIRONMENTS + "/{environment}", body={"name": "n"}, text_field="name",
         fields={
             "name": text(1, 128) + _KEPT,
             "slug": slug("f") + _KEPT,
             "org_id": ANYTHING,
             "id": ANYTHING,
         }),
    _row("DELETE", ENVIRONMENTS + "/{environment}"),
)  # fmt: skip
