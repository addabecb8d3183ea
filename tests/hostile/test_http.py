"""What is refused before a body counts, for every call: credential, sight, right, encoding, size;
and paths, queries, cursors and headers that nobody should send (GUARANTEES 23–25)."""

from typing import Any

import pytest
from tests.hostile.native_rows import ONE
from tests.hostile.refusals import CODES, names, refusal
from tests.hostile.registry import Row, filled
from tests.hostile.test_json import WRITES
from tests.hostile.test_table import ROWS, told
from tests.hostile.world import API, EVENT, World, encoded, put
from tests.web.fakes import Answer

pytestmark = pytest.mark.anyio

MIB = 1_048_576
EVENT_BYTES = 262_144
EVERY = [pytest.param(row, id=row.name) for row in ROWS if not row.note]
READS_AND_CHANGES = [
    pytest.param(row, id=row.name)
    for row in ROWS
    if row.method in ("GET", "PATCH") and not row.note
]
LISTS = [pytest.param(row, id=row.name) for row in ROWS if row.query and not row.note]
CURSORS = [row for row in ROWS if "cursor" in row.query and not row.note]


def limit(row: Row) -> int:
    return 8 * MIB if row.path.endswith("/batch") else MIB


async def ask(
    world: World, row: Row, path: str, body: Any = b"", token: str = "", **headers: str
) -> Answer:
    tenant = await world.tenant(row.name)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    chosen = tenant.tokens.get(token or row.token, token)
    return await world.ask(row.method, filled(path, tenant), body, token=chosen, headers=named)


def is_error(row: Row, answer: Answer, status: int) -> str:
    """Whether it is the dialect's own error of this status."""
    if answer.status != status:
        return f"{status} expected: {answer}"
    found = refusal(row.dialect, answer)
    if row.dialect == "native" and found.code != CODES[status][0]:
        return f"{found}"
    return ""


@pytest.mark.parametrize("row", EVERY)
async def test_strangers(world: World, row: Row) -> None:
    if row.open:
        return
    await world.tenant(row.name)
    before = world.stored()
    wrong = []
    for token in ("x", "toc_" + "a" * 49, "\u00e9", "x" * 513, "toc_" + "a" * 43 + "000000"):
        answer = await ask(world, row, row.path, b"{", token, content_encoding="gzip")
        if found := is_error(row, answer, 401):
            wrong.append((token[:20], found))
        if answer.headers.get("connection") != "close":
            wrong.append((token[:20], "left open"))
    assert world.stored() == before
    told(wrong)


@pytest.mark.parametrize("row", EVERY)
async def test_paths(world: World, row: Row) -> None:
    """Ids and slugs of others, of nobody, and what is neither: 404 before right, size and body."""
    tenant = await world.tenant(row.name)
    rival = await world.tenant("a rival")
    places = [name for name in tenant.names if f"{{{name}}}" in row.path.partition("?")[0]]
    before, wrong = world.stored(), []
    for place in places:
        values = ["0" * 24, "nowhere", "%00", "a%2Fb", "x" * 5_000, "\ufffd"]
        # Whoever has the link of somebody else may use it, and the operator sees all accounts.
        alike = row.open or place == "user"
        values += [] if alike else [rival.names[place], rival.names[place].upper()]
        values += ["..", "*", "' OR 1=1 --", "\uff4f"]
        if place not in ("org", "project"):
            values += [
                "one",
                tenant.names[place][:-1],
                tenant.names[place] + "0",
                tenant.names["org"],
            ]
            values += [] if row.dialect == "hookstream" else ["chan_" + tenant.names[place]]
        for value in values:
            path = row.path.replace(f"{{{place}}}", value)
            answer = await ask(world, row, path, b"{", content_encoding="gzip")
            if found := is_error(row, answer, 404):
                wrong.append((f"{place} = {value[:40]}", found))
    assert world.stored() == before
    told(wrong)


@pytest.mark.parametrize("row", READS_AND_CHANGES)
async def test_ids_in_any_case(world: World, row: Row) -> None:
    tenant = await world.tenant(row.name)
    shown = await ask(world, row, row.path, row.body or b"")
    path = row.path
    for name in ("org", "project", "channel", "whole", "event", "delivery"):
        path = path.replace(f"{{{name}}}", tenant.names[name].upper())
    upper = await ask(world, row, path, row.body or b"")
    assert (upper.status, shown.status) == (row.success, row.success)
    if row.method == "GET" and not row.query:
        assert upper.json() == shown.json()


@pytest.mark.parametrize("row", WRITES)
async def test_encodings_and_sizes(world: World, row: Row) -> None:
    tenant = await world.tenant(row.name)
    good = encoded(filled(row.body, tenant))
    before, wrong = world.stored(), []
    for encoding in ("gzip", "deflate", "br", "identity, gzip", "x", "gzip, identity"):
        answer = await ask(world, row, row.path, b" " * (limit(row) + 1), content_encoding=encoding)
        if found := is_error(row, answer, 415):
            wrong.append((encoding, found))
    over = b" " * (limit(row) + 1 - len(good)) + good
    for name, body in (("one over", over), ("far over", over * 2), ("rubbish", b"{" * len(over))):
        if found := is_error(row, await ask(world, row, row.path, body), 413):
            wrong.append((name, found))
    answer = await ask(world, row, row.path, b"", content_length=str(limit(row) + 1))
    if found := is_error(row, answer, 413):
        wrong.append(("announced", found))
    assert world.stored() == before
    for encoding in ("identity", "Identity", ""):
        answer = await ask(world, row, row.path, over[1:], content_encoding=encoding)
        if answer.status != row.success:
            wrong.append((f"largest, {encoding}", f"{answer}"))
    told(wrong)


@pytest.mark.parametrize("row", LISTS)
async def test_unreadable_queries(world: World, row: Row) -> None:
    wrong = []
    for query in ("%ff=1", "limit=%ff", "type=%ed%a0%80", "a=1&" * 101, "x=%c0%af"):
        answer = await ask(world, row, f"{row.path}?{query}")
        if row.method == "GET" and (found := is_error(row, answer, 400)):
            wrong.append((query[:40], found))
        if answer.status != 400:
            wrong.append((query[:40], f"{answer}"))
    told(wrong)


async def _cursor(world: World, row: Row, name: str) -> str:
    """The cursor of this list for the tenant of that name, which gets enough to turn a page."""
    tenant = await world.tenant(name)
    here = f"{API}/{tenant.names['org']}"
    make: dict[str, dict[str, Any]] = {
        "keys": {"name": "k"},
        "channels": {"name": "n", "type": "webhook", "settings": {"url": "http://127.0.0.9/"}},
        "events": EVENT | {"project": tenant.names["project"]},
        "projects": {"name": "p"},
    }
    kind = {"deliveries": "events", "notification-channels": "channels"}
    last = row.path.rpartition("/")[2]
    last = kind.get(last, last)
    if last in make:
        body = make[last] | ({"project": tenant.names["project"]} if last == "channels" else {})
        await world.make(
            f"{here}/{last}", body | ({"enabled": False} if "settings" in body else {})
        )
    if last == "alert-rules":
        where = {"org_id": tenant.names["org"], "env_id": tenant.names["project"]}
        rule = {"name": "n", "rule_type": "dlq", "rule_config": {"threshold": 0}}
        await world.make(row.path, rule | where)
    token = tenant.tokens[row.token]
    answer = await world.ask("GET", filled(row.path, tenant) + "?limit=1", token=token)
    page = answer.json()
    cursor: str = page.get("next_cursor") or page.get("cursor") or ""
    return cursor


async def test_cursors_of_other_lists_and_organizations(world: World) -> None:
    """A cursor is good for the one list of the one organization that it came from."""
    await world.tenant("other cursors")  # so that there is a second organization
    own = {row.name: await _cursor(world, row, "cursors") for row in CURSORS}
    theirs = {row.name: await _cursor(world, row, "other cursors") for row in CURSORS}
    tenant = await world.tenant("cursors")
    wrong = []
    for row in CURSORS:
        path = filled(row.path, tenant)
        token = tenant.tokens[row.token]
        mine = own.pop(row.name)
        if not mine:
            assert row.path.endswith(("/jobs", "/sessions", "/v1/audit")), row.name
        foreign = [*own.values(), *(c for name, c in theirs.items() if name != row.name)]
        if row.token != "operator":  # the operator's own lists are one for all
            foreign.append(theirs[row.name])
        broken = (
            [mine[:-1], mine + "A", mine.swapcase(), mine[:8], "A" + mine, mine * 20]
            if mine
            else []
        )
        broken += (
            [mine[:-2] + "!!", f"{mine}%3D", tenant.names["channel"], "%20" + mine] if mine else []
        )
        for cursor in (*foreign, *broken):
            if not cursor:
                continue
            answer = await world.ask("GET", f"{path}?cursor={cursor}", token=token)
            if found := is_error(row, answer, 400):
                wrong.append((f"{row.name} {cursor}", found))
            elif not names(refusal(row.dialect, answer).field, "cursor"):
                wrong.append((f"{row.name} {cursor}", "does not name the cursor"))
        if mine:
            answer = await world.ask("GET", f"{path}?cursor={mine}&limit=100", token=token)
            assert answer.status == 200, answer
        own[row.name] = mine
    told(wrong)


KEYS_REFUSED = ("", "k" * 257, "a\tb", "a\x01b", "\u00ff", "\x7f")
KEYS_TAKEN = ("k", "k" * 256, "a b:c", "\u00e9".encode().decode("latin-1") * 2)


@pytest.mark.parametrize("path", [ONE + "/events", ONE + "/events/batch"])
async def test_headers_of_a_publish(world: World, path: str) -> None:
    tenant = await world.tenant(f"headers {path}")
    url, token = filled(path, tenant), tenant.tokens["admin"]
    body = {"events": [EVENT]} if path.endswith("batch") else EVENT
    native = Row(dialect="native", method="POST", path=path, success=202)

    async def send(sent: Any, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await world.ask("POST", url, sent, token=token, headers=named)

    before, wrong = world.stored(), []
    for value in (*KEYS_REFUSED, *(KEYS_TAKEN if path.endswith("batch") else ())):
        answer = await send(body, idempotency_key=value)
        if found := is_error(native, answer, 400):
            wrong.append((value[:20], found))
        elif refusal("native", answer).field != "Idempotency-Key":
            wrong.append((value[:20], "does not name the header"))
    for value in ("", "x", tenant.names["delivery"]):
        answer = await send(body, tocsin_delivery=value)
        assert (answer.status, answer.json()["code"]) == (400, "loop"), answer
    assert world.stored() == before
    # Encoding and size come before what the headers say, and both before the body.
    bad = {"idempotency_key": "", "tocsin_delivery": "x"}
    assert (await send(b"{", **bad, content_encoding="gzip")).status == 415
    size = limit(native) + 1
    assert (await send(b"{" * size, **bad)).status == 413
    told(wrong)
    if not path.endswith("batch"):
        for value in KEYS_TAKEN:
            first = (await send(body, idempotency_key=value)).json()
            again = (await send(body | {"idempotency_key": None}, idempotency_key=value)).json()
            assert (again["id"], first["duplicate"], again["duplicate"]) == (
                first["id"],
                False,
                True,
            )
        both = await send(body | {"idempotency_key": "a"}, idempotency_key="b")
        assert is_error(native, both, 400) == ""
        assert (await send(body | {"idempotency_key": "a"}, idempotency_key="a")).status == 202


def _event(size: int) -> bytes:
    head, tail = b'{"type":"a.b","data":"', b'"}'
    return head + b"x" * (size - len(head) - len(tail)) + tail


async def test_sizes_of_events(world: World) -> None:
    tenant = await world.tenant("sizes")
    url, token = f"{API}/{tenant.names['org']}/events", tenant.tokens["admin"]
    for body in (_event(EVENT_BYTES), b" " * (MIB - EVENT_BYTES) + _event(EVENT_BYTES)):
        assert (await world.ask("POST", url, body, token=token)).status == 202
    before = world.stored()
    answer = await world.ask("POST", url, _event(EVENT_BYTES + 1), token=token)
    assert (answer.status, answer.json()["code"]) == (413, "payload_too_large")
    inside = "\U0001f600".encode() * (EVENT_BYTES // 4)
    answer = await world.ask("POST", url, b'{"type":"a.b","data":"%s"}' % inside, token=token)
    assert answer.status == 413
    assert world.stored() == before
    batch = b'{"events":[ %s , %s,%s]}' % (_event(EVENT_BYTES), _event(EVENT_BYTES + 1), _event(50))
    answer = await world.ask("POST", url + "/batch", batch, token=token)
    results = answer.json()["results"]
    assert [one.get("error", {}).get("code") for one in results] == [
        None,
        "payload_too_large",
        None,
    ]


async def test_items_of_a_batch(world: World) -> None:
    """Every refusal of a single event is the same refusal of an item, and spoils no other."""
    row = next(row for row in ROWS if row.path.endswith("/events") and row.method == "POST")
    tenant = await world.tenant("items")
    url, token = f"{API}/{tenant.names['org']}/events", tenant.tokens["admin"]
    items, wanted = [], []
    for field, cases in row.fields.items():
        for case in cases:
            if isinstance(case.value, str) and any(0xD800 <= ord(c) < 0xE000 for c in case.value):
                continue
            item = put(EVENT, field, filled(case.value, tenant))
            if len(encoded(item)) < 20_000 and field != "idempotency_key":
                items.append(item)
                wanted.append(case.ok)
    answer = await world.ask("POST", url + "/batch", {"events": items[:1000]}, token=token)
    assert answer.status == 202, answer
    wrong = []
    for item, ok, result in zip(items, wanted, answer.json()["results"], strict=True):
        alone = await world.ask("POST", url, item, token=token)
        if ok != ("id" in result):
            wrong.append((str(item)[:80], str(result)))
        elif not ok and result["error"] != alone.json():
            wrong.append((str(item)[:80], f"{result} alone: {alone}"))
    told(wrong)
    stray = [b"1", b'"x"', b"null", b"[]", b"{}", b'{"type":"a.b"}', b"true"]
    stray.append(b'{"type":"a.b","data":1,"x":1}')
    stray += [b'{"type":"a.b","data":%s}' % data for data in (b"1e999", b"[" * 65 + b"]" * 65)]
    body = b'{"events":[%s]}' % b",".join([encoded(EVENT), *stray])
    answer = await world.ask("POST", url + "/batch", body, token=token)
    errors = [one.get("error", {}).get("status") for one in answer.json()["results"]]
    assert errors == [None] + [400] * len(stray)
