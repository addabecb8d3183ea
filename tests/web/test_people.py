"""People on the whole service: they come in, work with a cookie, switch, and are put out again."""

import re
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
from tests.web.fakes import Answer, Client
from tests.web.people import COOKIE, cookie, sign_in, weak

from tocsin.app import App
from tocsin.config import load
from tocsin.domain.model import Role
from tocsin.web.asgi import build

pytestmark = pytest.mark.anyio

AUTH = "/api/v1/auth"
ORGS = "/api/v1/organizations"
USERS = "/api/v1/users"
H = "/v1/notification-channels"
HOOK = {"name": "n", "channel_type": "webhook", "config": {"url": "http://127.0.0.1:9/"}}
PASSWORD = "correct horse battery"

_numbers = count()


@pytest.fixture(scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    folder: Path = tmp_path_factory.mktemp("people")
    flags = {"data_dir": folder, "port": 0, "allow_networks": "127.0.0.0/8"}
    flags |= {"requests_per_minute": 0, "stranger_requests_per_minute": 0}
    flags |= {"sign_in_failures_per_address_max": 0}
    async with App(load(flags), passwords=weak()) as running:
        yield running


class Person:
    """Somebody with an account, an organization `org` of their own, and a browser."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.client = Client(build(app, app.settings, cursor_key=b"k" * 32))
        self.name = f"org-{next(_numbers)}"
        self.email = f"{self.name}@example.com"
        self.token = ""
        self.id = ""
        self.org = ""
        self.project = ""

    async def set_up(self, role: str = "admin") -> "Person":
        token = self.app.operator_token
        made = (await self.client("POST", ORGS, {"name": self.name}, token=token)).json()
        self.org = made["id"]
        where = f"{ORGS}/{self.org}/projects"
        self.project = (await self.client("POST", where, {"name": "One"}, token=token)).json()["id"]
        body = {"email": self.email, "organization": self.org, "role": role}
        user = (await self.client("POST", USERS, body, token=token)).json()
        self.id = user["id"]
        answer = await self.use(user["link"]["url"])
        assert answer.status == 200, answer
        return self

    async def use(self, url: str, **more: str) -> Answer:
        link = f"{AUTH}/links/{url.rpartition('/')[2]}"
        return self.keep(await self.client("POST", link, {"password": PASSWORD} | more))

    async def sign_in(self, password: str = PASSWORD, **more: Any) -> Answer:
        body = {"email": self.email, "password": password} | more.pop("body", {})
        return self.keep(await self.client("POST", AUTH + "/sign-in", body, **more))

    def keep(self, answer: Answer) -> Answer:
        found = re.match(rf"{COOKIE}=([^;]+)", answer.headers.get("set-cookie", ""))
        self.token = found[1] if found else self.token
        return answer

    async def __call__(self, method: str, path: str, body: Any = b"", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.keep(await self.client(method, path, body, cookie(self.token) | named))

    async def status_of(self, token: str) -> int:
        return (await self.client("GET", AUTH + "/session", headers=cookie(token))).status

    async def audit(self, **filters: str) -> list[Any]:
        query = f"?{urlencode(filters)}" if filters else ""
        path = f"{ORGS}/{self.org}/audit{query}"
        entries: list[Any] = (await self.client("GET", path, token=self.app.operator_token)).json()[
            "data"
        ]
        return entries


@pytest.fixture
async def ann(app: App) -> Person:
    return await Person(app).set_up()


@pytest.fixture
async def bob(app: App) -> Person:
    return await Person(app).set_up()


async def test_the_documented_call_with_only_the_cookie(ann: Person) -> None:
    answer = await ann("POST", H, HOOK)
    assert answer.status == 201, answer
    channel = answer.json()["channel"]
    assert (channel["org_id"], channel["env_id"]) == (ann.org, ann.project)
    assert (await ann("GET", f"{H}/{channel['id']}")).status == 200
    assert (await ann("GET", H, x_api_key="wrong")).status == 200
    assert (await ann("GET", H, authorization="Bearer wrong")).status == 200


async def test_the_cookie_in_the_other_dialects_and_for_publishing(ann: Person) -> None:
    o = f"/v1/organizations/{ann.org}/notifications"
    body = {"type": "webhook", "events": {}, "setup": {"webhook": {"url": "http://127.0.0.1:9/"}}}
    assert (await ann("POST", o, body)).status == 200
    assert len((await ann("GET", o)).json()["data"]["items"]) == 1
    assert (await ann("GET", f"{ORGS}/{ann.org}/channels")).status == 200
    event = {"type": "a.b", "data": 1}
    assert (await ann("POST", f"{ORGS}/{ann.org}/events", event)).status == 202
    refused = await ann("POST", f"{ORGS}/{ann.org}/events", event, origin="https://evil.example")
    assert (refused.status, refused.json()["code"]) == (403, "forbidden")


async def test_the_selected_project_is_the_environment(ann: Person) -> None:
    where = f"{ORGS}/{ann.org}/projects"
    second = (await ann("POST", where, {"name": "Two"})).json()["id"]
    assert (await ann("POST", H, HOOK)).status == 400
    session = (await ann("PATCH", AUTH + "/session", {"project": "two"})).json()
    assert session["project"]["id"] == second
    assert (await ann("POST", H, HOOK)).json()["channel"]["env_id"] == second
    named = await ann("POST", H, HOOK | {"env_id": ann.project})
    assert named.json()["channel"]["env_id"] == ann.project
    # It narrows nothing.
    assert len((await ann("GET", H)).json()["channels"]) == 2
    assert (await ann("PATCH", AUTH + "/session", {"project": None})).json()["project"] is None
    assert (await ann("POST", H, HOOK)).status == 400
    await ann("PATCH", AUTH + "/session", {"project": second})
    assert (await ann("DELETE", f"{where}/{second}")).status == 204
    assert (await ann("GET", AUTH + "/session")).json()["project"] is None
    assert (await ann("POST", H, HOOK)).json()["channel"]["env_id"] == ann.project


async def test_a_session_is_renewed_at_sign_in(ann: Person) -> None:
    """Fixation: what was in the browser before is void afterwards."""
    before = ann.token
    planted = "A" * 43
    answer = await ann.sign_in(headers=cookie(planted))
    assert answer.status == 200
    assert ann.token not in (before, planted)
    assert (await ann.status_of(planted)) == 401
    assert (await ann.status_of(before)) == 200  # another browser's
    second = ann.token
    await ann.sign_in(headers=cookie(second))
    assert (await ann.status_of(second), await ann.status_of(ann.token)) == (401, 200)


async def test_a_session_is_void_after_sign_out(ann: Person) -> None:
    """Replay: the cookie that somebody copied is of no use."""
    token = ann.token
    assert (await ann("GET", AUTH + "/session")).status == 200
    answer = await ann("POST", AUTH + "/sign-out")
    assert answer.status == 204
    assert answer.headers["set-cookie"].startswith(f"{COOKIE}=; Path=/; Max-Age=0")
    for path in (AUTH + "/session", f"{ORGS}/{ann.org}", H):
        assert (await ann.client("GET", path, headers=cookie(token))).status == 401
    assert (await ann.client("POST", H, HOOK, cookie(token))).status == 401


async def test_the_cookie_is_hidden_from_scripts_and_other_sites(ann: Person) -> None:
    answer = await ann.sign_in()
    assert answer.headers["set-cookie"] == (
        f"{COOKIE}={ann.token}; Path=/; Max-Age=7776000; HttpOnly; SameSite=Lax"
    )
    assert answer.headers["cache-control"] == "no-store"
    assert ann.token not in answer.body.decode()


async def test_nothing_of_a_token_or_password_is_stored(ann: Person) -> None:
    await ann.sign_in()
    made = (await ann("POST", f"{ORGS}/{ann.org}/members", invitation("x"))).json()

    def everything(connection: sa.Connection) -> str:
        names = connection.execute(sa.text("SELECT name FROM sqlite_master WHERE type = 'table'"))
        return "".join(
            str(connection.execute(sa.text(f"SELECT * FROM {name}")).all()) for (name,) in names
        )

    stored = await ann.app.changes.store.read(everything)
    assert ann.email in stored
    for secret in (ann.token, PASSWORD, made["url"].rpartition("/")[2]):
        assert secret not in stored


def invitation(name: str, role: str = "viewer") -> dict[str, str]:
    return {"email": f"{name}@example.com", "role": role}


async def test_own_sessions_are_listed_and_ended_one_by_one(ann: Person, bob: Person) -> None:
    first = ann.token
    agent = "Browser \x1b[31m\u202e" + "x" * 500
    await ann.sign_in(headers={"user-agent": agent.encode().decode("latin-1")})
    listed = (await ann("GET", AUTH + "/sessions?limit=1")).json()
    (newest,) = listed["data"]
    assert newest["current"] is True
    assert newest["address"] == "203.0.113.9"
    assert newest["user_agent"].startswith("Browser ␛[31m")
    assert len(newest["user_agent"].encode()) <= 200
    cursor = listed["next_cursor"]
    (oldest,) = (await ann("GET", f"{AUTH}/sessions?limit=1&cursor={cursor}")).json()["data"]
    assert oldest["current"] is False
    assert (await bob("GET", f"{AUTH}/sessions?cursor={cursor}")).status == 400
    assert (await bob("DELETE", f"{AUTH}/sessions/{oldest['id']}")).status == 404
    assert await ann.status_of(first) == 200
    assert (await ann("DELETE", f"{AUTH}/sessions/{oldest['id']}")).status == 204
    assert await ann.status_of(first) == 401
    assert (await ann("DELETE", f"{AUTH}/sessions/{oldest['id']}")).status == 404
    assert len((await ann("GET", AUTH + "/sessions")).json()["data"]) == 1


async def test_a_changed_password_ends_all_other_sessions(ann: Person) -> None:
    other = ann.token
    await ann.sign_in()
    mine = ann.token
    path, new = AUTH + "/password", "another long password"
    wrong = await ann("POST", path, {"current_password": "x", "new_password": new})
    assert (wrong.status, await ann.status_of(mine)) == (403, 200)
    answer = await ann("POST", path, {"current_password": PASSWORD, "new_password": new})
    assert answer.status == 204, answer
    assert ann.token != mine
    assert [await ann.status_of(t) for t in (other, mine, ann.token)] == [401, 401, 200]
    assert (await ann.sign_in()).status == 401
    assert (await ann.sign_in(new)).status == 200


async def test_brute_force_is_slowed_down_and_tells_nothing(ann: Person) -> None:
    """Whether there is such an account or not, the answers are the same; the owner's own device
    and everybody else come in all the while."""
    strangers = Client(ann.client._app, address="198.51.100.7")

    async def guess(email: str) -> Answer:
        body = {"email": email, "password": "wrong wrong wrong"}
        return await strangers("POST", AUTH + "/sign-in", body)

    nobody = f"nobody-{next(_numbers)}@example.com"
    for email in (ann.email, nobody):
        answers = [await guess(email) for _ in range(12)]
        assert [one.status for one in answers] == [401] * 10 + [429] * 2
        assert 0 < int(answers[-1].headers["retry-after"]) <= 900
    known, unknown = await guess(ann.email.upper()), await guess(nobody)
    assert known.json() == unknown.json()
    body = {"email": ann.email, "password": PASSWORD}
    assert (await strangers("POST", AUTH + "/sign-in", body)).status == 429
    assert (await ann.sign_in()).status == 200
    await ann.app.guesses.flush()
    entries = await ann.audit(action="user.sign_in_failed")  # several, if the test took long
    assert sum(entry["changes"]["tries"] for entry in entries) == 10
    assert {entry["address"] for entry in entries} == {"198.51.100.7"}
    assert entries[0]["target"] == {"kind": "user", "id": ann.id}


async def test_switching_the_organization_renews_the_session(ann: Person, bob: Person) -> None:
    made = await bob("POST", f"{ORGS}/{bob.org}/members", {"email": ann.email, "role": "viewer"})
    shown = (await ann.client("GET", f"{AUTH}/links/{made.json()['url'][-43:]}")).json()
    assert (shown["asks"], shown["email"], shown["role"]) == ("password", ann.email, "viewer")
    first = ann.token
    assert (await ann("PATCH", AUTH + "/session", {"organization": bob.org})).status == 400
    assert (await ann.use(made.json()["url"])).status == 200
    assert (await ann("GET", f"{ORGS}/{bob.org}")).status == 200
    assert (await ann("POST", f"{ORGS}/{bob.org}/projects", {"name": "x"})).status == 403
    there = ann.token
    session = (await ann("PATCH", AUTH + "/session", {"organization": ann.name})).json()
    assert session["organization"]["role"] == "admin"
    assert {one["id"] for one in session["organizations"]} == {ann.org, bob.org}
    assert [await ann.status_of(t) for t in (first, there, ann.token)] == [200, 401, 200]
    # A session is about one organization: the other one is out of its sight.
    assert (await ann("GET", f"{ORGS}/{bob.org}")).status == 404
    assert (await ann("GET", f"/v1/organizations/{bob.org}/notifications")).status == 404


async def test_another_role_voids_the_sessions_at_once(ann: Person, app: App) -> None:
    token = await sign_in(app, ann.org, Role.DEVELOPER)
    project = {"name": "n", "type": "webhook", "settings": {"url": "http://127.0.0.1:9/"}}
    path = f"{ORGS}/{ann.org}/channels"
    assert (await ann.client("POST", path, project, cookie(token))).status == 201
    listed = (await ann("GET", f"{ORGS}/{ann.org}/members")).json()["data"]
    member = next(one for one in listed if one["role"] == "developer")
    here = f"{ORGS}/{ann.org}/members/{member['id']}"
    changed = await ann("PATCH", here, {"role": "viewer"})
    assert (changed.status, changed.json()["role"]) == (200, "viewer")
    assert (await ann.client("POST", path, project, cookie(token))).status == 401
    entry = (await ann.audit(action="member.update"))[0]
    assert entry["changes"]["role"] == {"from": "developer", "to": "viewer"}
    assert entry["actor"] == {"kind": "session", "id": ann.id, "name": ann.email}
    mine = next(one for one in listed if one["user_id"] == ann.id)["id"]
    for method, body in (("PATCH", {"role": "viewer"}), ("DELETE", b"")):
        refused = await ann(method, f"{ORGS}/{ann.org}/members/{mine}", body)
        assert (refused.status, refused.json()["code"]) == (409, "conflict"), "the last admin"
    assert (await ann("DELETE", here)).status == 204
    assert (await ann("GET", here)).status in (404, 405)


async def test_nobody_gives_or_takes_a_role_above_their_own(ann: Person, app: App) -> None:
    keys = f"{ORGS}/{ann.org}/keys"
    grants = ["member.*", *("project.list", "project.get", "*.list", "*.get")]
    token = (await ann("POST", keys, {"name": "hr", "permissions": grants})).json()["token"]
    members = f"{ORGS}/{ann.org}/members"
    call = Client(ann.client._app, token)
    assert (await call("POST", members, invitation("y", "viewer"))).status == 201
    for role in ("developer", "admin"):
        assert (await call("POST", members, invitation("y", role))).status == 403
    await sign_in(app, ann.org, Role.VIEWER)
    listed = (await call("GET", members)).json()["data"]
    viewer = next(one for one in listed if one["role"] == "viewer")["id"]
    admin = next(one for one in listed if one["role"] == "admin")["id"]
    assert (await call("PATCH", f"{members}/{viewer}", {"role": "admin"})).status == 403
    assert (await call("PATCH", f"{members}/{admin}", {"role": "viewer"})).status == 403
    assert (await call("DELETE", f"{members}/{admin}")).status == 403
    assert (await call("DELETE", f"{members}/{viewer}")).status == 204


async def test_a_removed_member_sees_and_may_do_nothing(ann: Person, app: App) -> None:
    """Nor does who never was in an organization: nowhere is not everywhere."""
    nowhere = await sign_in(app, None, Role.ADMIN)
    call = ann.client
    session = (await call("GET", AUTH + "/session", headers=cookie(nowhere))).json()
    assert (session["organization"], session["organizations"]) == (None, [])
    for method, path, body, status in (
        ("GET", ORGS, b"", 403),
        ("GET", USERS, b"", 403),
        ("GET", f"{ORGS}/{ann.org}", b"", 404),
        ("GET", f"{ORGS}/{'0' * 24}/audit", b"", 403),
        ("GET", f"/v1/organizations/{ann.org}/notifications", b"", 404),
        ("GET", H, b"", 403),
        ("POST", H, HOOK | {"org_id": ann.org, "env_id": ann.project}, 403),
        ("POST", f"{ORGS}/{ann.org}/events", {"type": "a", "data": 1}, 404),
    ):
        answer = await call(method, path, body, cookie(nowhere))
        assert answer.status == status, (path, answer)


async def test_what_is_deleted_has_no_sessions(ann: Person, bob: Person) -> None:
    operator = ann.app.operator_token
    path = f"{ORGS}/{ann.org}?confirm={ann.name}"
    assert (await ann.client("DELETE", path, token=operator)).status == 202
    assert (await ann("GET", f"{ORGS}/{ann.org}")).status in (401, 404)
    assert await bob.status_of(bob.token) == 200
    assert (await bob.client("DELETE", f"{USERS}/{bob.id}", token=operator)).status == 204
    assert await bob.status_of(bob.token) == 401
    assert (await bob.sign_in()).status == 401
    (entry,) = await bob.audit(action="user.delete")
    assert (entry["actor"]["kind"], entry["changes"]) == ("operator", {"email": bob.email})


async def test_links_work_once_and_only_when_posted(ann: Person) -> None:
    members = f"{ORGS}/{ann.org}/members"
    made = (await ann("POST", members, invitation("carl-1", "developer"))).json()
    assert made["kind"] == "invite"
    token = made["url"].rpartition("/link/")[2]
    api = f"{AUTH}/links/{token}"
    for _ in range(3):
        for path in (api, f"/link/{token}"):
            for method in ("GET", "HEAD"):
                assert (await ann.client(method, path)).status == 200
    assert len((await ann("GET", members)).json()["data"]) == 1
    short = await ann.client("POST", api, {"password": "short"})
    assert (short.status, short.json()["errors"][0]["field"]) == (400, "password")
    used = await ann.client("POST", api, {"password": PASSWORD, "name": "Carl"})
    assert used.status == 200
    assert used.json()["organization"]["role"] == "developer"
    for method in ("GET", "POST"):
        body = {"password": PASSWORD} if method == "POST" else b""
        assert (await ann.client(method, api, body)).status == 404
        assert (await ann.client(method, f"/link/{token}", body)).status == 404
    found = (await ann("GET", members)).json()["data"][0]
    assert (found["email"], found["name"]) == ("carl-1@example.com", "Carl")
    assert [one["action"] for one in await ann.audit(target=found["id"])] == ["member.join"]


async def test_a_link_does_not_replace_a_password(ann: Person, bob: Person) -> None:
    """An invitation for an address that has an account does not take the account over."""
    body = {"email": ann.email, "role": "viewer"}
    made = (await bob("POST", f"{ORGS}/{bob.org}/members", body)).json()
    token = made["url"].rpartition("/")[2]
    answer = await bob.client("POST", f"{AUTH}/links/{token}", {"password": "stolen stolen"})
    assert answer.status == 401
    assert (await ann.sign_in()).status == 200
    assert (await ann.use(made["url"])).status == 200


async def test_a_reset_by_the_operator_ends_all_sessions(ann: Person) -> None:
    operator = ann.app.operator_token
    before = ann.token
    first, second = [
        (await ann.client("POST", f"{USERS}/{ann.id}/reset", token=operator)).json()
        for _ in range(2)
    ]
    assert await ann.status_of(before) == 200
    new = {"password": "a new long password"}
    assert (await ann.use(first["url"], **new)).status == 404  # the later one replaces it
    assert (await ann.use(second["url"], **new)).status == 200
    assert (await ann.status_of(before), await ann.status_of(ann.token)) == (401, 200)
    assert (await ann.sign_in()).status == 401
    assert (await ann.sign_in(new["password"])).status == 200
    actions = [one["action"] for one in await ann.audit()]
    assert {"user.reset", "user.set_password", "user.sign_in"} <= set(actions)


async def test_the_page_of_a_link(ann: Person) -> None:
    made = (await ann("POST", f"{ORGS}/{ann.org}/members", invitation("dora"))).json()
    path = f"/link/{made['url'].rpartition('/')[2]}"
    page = await ann.client("GET", path)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; form-action 'self'")
    assert page.headers["referrer-policy"] == "same-origin"
    assert page.headers["cache-control"] == "no-store"
    text = page.body.decode()
    assert "<script" not in text
    assert set(re.findall(r'(?:src|href|action)="([^"]*)"', text)) == {"/link/link.css"}
    assert (await ann.client("GET", "/link/link.css")).status == 200
    form = {"content-type": "application/x-www-form-urlencoded", "host": "tocsin.example"}
    wrong = urlencode({"name": "<b>x", "password": "short"}).encode()
    again = await ann.client("POST", path, wrong, form)
    assert again.status == 400
    assert "&lt;b&gt;x" in again.body.decode()
    assert "10 to 256" in again.body.decode()
    assert "short" not in again.body.decode()
    right = urlencode({"name": "Dora", "password": PASSWORD}).encode()
    evil = form | {"origin": "https://evil.example"}
    assert (await ann.client("POST", path, right, evil)).status == 403
    done = await ann.client("POST", path, right, form | {"origin": "http://tocsin.example"})
    assert done.status == 200
    token = done.headers["set-cookie"].partition(";")[0].partition("=")[2]
    session = (await ann.client("GET", AUTH + "/session", headers=cookie(token))).json()
    assert session["user"]["email"] == "dora@example.com"
    assert (await ann.client("DELETE", path)).status == 405
    gone = await ann.client("GET", path)
    assert (gone.status, "does not work" in gone.body.decode()) == (404, True)


async def test_the_audit_says_who_did_what_and_can_be_searched(ann: Person, bob: Person) -> None:
    hook = (await ann("POST", H, HOOK)).json()["channel"]["id"]
    await ann("DELETE", f"{ORGS}/{ann.org}/channels/{hook}")
    entries = await ann.audit(target=hook)
    assert [(one["action"], one["dialect"]) for one in entries] == [
        ("channel.delete", "native"),
        ("channel.create", "hookstream"),
    ]
    assert all(one["actor"]["id"] == ann.id for one in entries)
    assert all(one["address"] == "203.0.113.9" for one in entries)
    everything = await ann.audit()
    mine = [one for one in everything if one["actor"]["id"] == ann.id]
    assert await ann.audit(actor=ann.id) == mine
    operators = [one for one in everything if one["actor"]["kind"] == "operator"]
    assert await ann.audit(actor="operator") == operators
    assert await ann.audit(target="channel") == entries
    assert await ann.audit(action="channel.create", target=hook) == entries[1:]
    assert await ann.audit(action="channel") == []
    at = entries[0]["at"]
    assert entries[0] in await ann.audit(after=at)
    assert entries[0] not in await ann.audit(before=at)
    page = (await ann("GET", f"{ORGS}/{ann.org}/audit?limit=2&actor=operator")).json()
    cursor = page["next_cursor"]
    rest = await ann("GET", f"{ORGS}/{ann.org}/audit?limit=50&actor=operator&cursor={cursor}")
    assert page["data"] + rest.json()["data"] == operators
    assert (await bob("GET", f"{ORGS}/{ann.org}/audit")).status == 404
    assert (await ann("GET", "/api/v1/audit")).status == 403
    body = {"email": f"{ann.name}-alone@example.com"}
    await ann.client("POST", USERS, body, token=ann.app.operator_token)
    server = await ann.client("GET", "/api/v1/audit", token=ann.app.operator_token)
    assert server.json()["data"][0]["action"] == "user.create"


async def test_the_first_account_of_a_server(tmp_path: Path) -> None:
    flags = {"data_dir": tmp_path, "port": 0, "public_url": "https://tocsin.example/"}
    async with App(load(flags), passwords=weak()) as app:
        old = app.first_link
        assert old is not None
        assert old.startswith("https://tocsin.example/link/")
    async with App(load(flags), passwords=weak()) as app:
        url = app.first_link
        assert url is not None
        call = Client(build(app, app.settings, cursor_key=b"k" * 32))
        link = f"{AUTH}/links/{url[-43:]}"
        answers = {"password": PASSWORD, "email": "Ann@Example.com", "organization": "Acme Inc."}
        assert (await call("POST", f"{AUTH}/links/{old[-43:]}", answers)).status == 404
        missing = await call("POST", link, {"password": PASSWORD})
        assert missing.json()["errors"][0]["field"] == "email"
        made = await call("POST", link, answers)
        assert made.status == 200, made
        session = made.json()
        assert session["user"]["email"] == "ann@example.com"
        assert session["organization"]["slug"] == "acme-inc"
        assert session["organization"]["role"] == "admin"
        assert made.headers["set-cookie"].endswith("Max-Age=0; HttpOnly; SameSite=Lax; Secure")
        assert (await call("POST", link, answers)).status == 404
    async with App(load(flags), passwords=weak()) as app:
        assert app.first_link is None
