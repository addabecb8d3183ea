"""Cookies and where requests come from: no other site writes, and no stranger's header counts."""

from typing import Any

import pytest
from tests.web.fakes import SHOP, Client, Fake, application, services
from tests.web.people import cookie

from tocsin.config import ConfigError, load
from tocsin.web import cookies

pytestmark = pytest.mark.anyio

H = "/v1/notification-channels"
BODY = {
    "name": "n",
    "channel_type": "webhook",
    "config": {"url": "https://x.example"},
    "env_id": SHOP,
}
NATIVE = "/api/v1/organizations/acme/channels"
CHANNEL = {"name": "n", "type": "webhook", "settings": {"url": "https://x.example"}}
APPLIVERY = "/v1/organizations/acme/notifications"
NOTIFICATION = {"type": "webhook", "events": {}, "setup": {"webhook": {"url": "https://x.example"}}}
WRITES: dict[str, tuple[str, Any]] = {
    "native": (NATIVE, CHANNEL),
    "publish": ("/api/v1/organizations/acme/events", {"type": "a.b", "data": 1}),
    "applivery": (APPLIVERY, NOTIFICATION),
    "hookstream": (H, BODY),
}
HOST = {"host": "tocsin.example:8400"}
OWN = "http://tocsin.example:8400"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"

# Headers beside cookie and Host, and whether the write is taken.
CASES: dict[str, tuple[dict[str, str], bool]] = {
    "a program": ({}, True),
    "a program with a name": ({"user-agent": "curl/8.0"}, True),
    "own page": ({"origin": OWN}, True),
    "own page, by a browser": (
        {"origin": OWN, "sec-fetch-site": "same-origin", "user-agent": BROWSER},
        True,
    ),
    "own page by TLS": ({"origin": "https://tocsin.example:8400"}, True),
    "own page, no origin": ({"sec-fetch-site": "same-origin", "user-agent": BROWSER}, True),
    "typed by the user": ({"sec-fetch-site": "none", "user-agent": BROWSER}, True),
    "another site": ({"origin": "https://evil.example"}, False),
    "no site": ({"origin": "null"}, False),
    "an empty origin": ({"origin": ""}, False),
    "another port": ({"origin": "http://tocsin.example:9000"}, False),
    "no port": ({"origin": "http://tocsin.example"}, False),
    "another scheme": ({"origin": "ftp://tocsin.example:8400"}, False),
    "a longer name": ({"origin": "http://tocsin.example:8400.evil.example"}, False),
    "a longer name before": ({"origin": "http://eviltocsin.example:8400"}, False),
    "a user in it": ({"origin": "http://tocsin.example:8400@evil.example"}, False),
    "two in one": ({"origin": f"{OWN} https://evil.example"}, False),
    "no URL": ({"origin": "http://[tocsin.example"}, False),
    "cross-site": ({"sec-fetch-site": "cross-site"}, False),
    "a sibling site": ({"sec-fetch-site": "same-site"}, False),
    "own origin from another site": ({"origin": OWN, "sec-fetch-site": "cross-site"}, False),
    "a browser that says nothing": ({"user-agent": BROWSER}, False),
    "a page that hides its origin": ({"referer": "https://evil.example/x"}, False),
}


def refusal(dialect: str, body: Any) -> Any:
    return {
        "native": lambda: body["code"],
        "publish": lambda: body["code"],
        "applivery": lambda: body["error"]["code"],
        "hookstream": lambda: body["status"],
    }[dialect]()


@pytest.mark.parametrize("dialect", WRITES)
async def test_who_writes_with_a_cookie(dialect: str, call: Client) -> None:
    client = Client(call._app)
    path, body = WRITES[dialect]
    codes = {"native": "forbidden", "publish": "forbidden", "applivery": 4003, "hookstream": 403}
    for name, (headers, taken) in CASES.items():
        answer = await client("POST", path, body, cookie("ann") | HOST | headers)
        if taken:
            assert answer.status < 300, (name, answer)
        else:
            assert answer.status == 403, (name, answer)
            assert refusal(dialect, answer.json()) == codes[dialect], name
        # Reading is for the same-origin policy of browsers to guard; keys are sent on purpose.
        if dialect != "publish":
            assert (await client("GET", path, b"", cookie("ann") | HOST | headers)).status == 200
        keyed = await client("POST", path, body, HOST | headers, token="admin")
        assert keyed.status < 300, (name, keyed)
        both = await client("POST", path, body, cookie("ann") | HOST | headers, token="admin")
        assert both.status < 300, (name, both)


async def test_origins_that_are_trusted() -> None:
    fake = services(trusted_origins="https://app.example, http://localhost:3000")
    client = Client(application(fake))
    for origin, status in (
        ("https://app.example", 201),
        ("https://app.example:443", 201),
        ("http://localhost:3000", 201),
        ("http://app.example", 403),
        ("https://app.example:444", 403),
        ("https://evil.app.example", 403),
    ):
        headers = cookie("ann") | HOST | {"origin": origin, "sec-fetch-site": "cross-site"}
        assert (await client("POST", H, BODY, headers)).status == status, origin


async def test_with_a_public_address_no_other_name_is_ours() -> None:
    client = Client(application(services(public_url="https://tocsin.example/")))
    for host, origin, status in (
        ("tocsin.example", "https://tocsin.example", 201),
        ("upstream:8400", "https://tocsin.example", 201),  # a proxy that changes the Host
        ("127.0.0.1:8400", "http://127.0.0.1:8400", 201),
        ("[::1]:8400", "http://[::1]:8400", 201),
        ("localhost:8400", "http://localhost:8400", 201),
        ("rebound.example:8400", "http://rebound.example:8400", 403),
        ("127.0.0.1.nip.example", "http://127.0.0.1.nip.example", 403),
    ):
        headers = cookie("ann") | {"host": host, "origin": origin}
        assert (await client("POST", H, BODY, headers)).status == status, host
    rebound = cookie("ann") | {"host": "rebound.example", "sec-fetch-site": "same-origin"}
    assert (await client("POST", H, BODY, rebound)).status == 403


async def test_signing_in_from_another_site_is_refused(call: Client) -> None:
    """Else a page could sign somebody in as the attacker, who then reads what they enter."""
    client = Client(call._app)
    body = {"email": "a@b.example", "password": "x"}
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        answer = await client("POST", "/api/v1/auth/sign-in", body, HOST | headers)
        assert answer.status == 403
        page = await client("POST", "/link/" + "A" * 43, b"", HOST | headers)
        assert page.status == 403


async def test_either_name_of_the_cookie_is_taken(call: Client) -> None:
    client = Client(call._app)
    for text, status in (
        ("better-auth.session_token=ann", 200),
        ("__Secure-better-auth.session_token=ann", 200),
        ("better-auth.session_token=eve; __Secure-better-auth.session_token=ann", 200),
        ("__Secure-better-auth.session_token=ann; better-auth.session_token=eve", 200),
        ("__Secure-better-auth.session_token=gone; better-auth.session_token=ann", 200),
        ("better-auth.session_token=gone; better-auth.session_token=ann", 200),
        ('better-auth.session_token="ann"', 200),
        ("a=better-auth.session_token=ann", 401),
        ("Better-Auth.Session_Token=ann", 401),
        ("better-auth.session_token=", 401),
        ("better-auth.session_token=expired", 401),
        ("better-auth.session_token=" + "x" * 8000, 401),
        ("; ".join(f"better-auth.session_token=x{n}" for n in range(50)), 401),
    ):
        answer = await client("GET", NATIVE, headers={"cookie": text})
        assert answer.status == status, text
    expired = await client("GET", NATIVE, headers=cookie("expired"))
    assert expired.json()["code"] == "expired_token"


def secure_of(fake: Fake, address: str, **headers: str) -> bool:
    gate = application(fake)._gate
    named = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    scope = {"client": (address, 1), "server": ("127.0.0.1", 8400), "headers": named}
    return gate.origins.secure(scope)


def test_only_a_trusted_proxy_says_that_it_was_tls() -> None:
    fake = services(trusted_proxies="10.0.0.0/8")
    assert secure_of(fake, "10.0.0.1", x_forwarded_proto="https")
    assert secure_of(fake, "10.0.0.1", x_forwarded_proto="http, HTTPS")
    assert not secure_of(fake, "10.0.0.1", x_forwarded_proto="https, http")
    assert not secure_of(fake, "10.0.0.1")
    assert not secure_of(fake, "203.0.113.9", x_forwarded_proto="https")
    assert not secure_of(services(), "127.0.0.1", x_forwarded_proto="https")
    assert secure_of(services(public_url="https://tocsin.example"), "203.0.113.9")


def test_links_lead_to_where_people_reach_the_server() -> None:
    def base(fake: Fake, address: str, **headers: str) -> str:
        named = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
        scope = {"client": (address, 1), "server": ("127.0.0.1", 8400), "headers": named}
        return application(fake)._gate.origins.base(scope)

    public = services(public_url="https://tocsin.example/at/")
    assert base(public, "10.0.0.1", host="evil.example") == "https://tocsin.example/at"
    proxied = services(trusted_proxies="10.0.0.0/8")
    secure = {"host": "t.example", "x_forwarded_proto": "https"}
    assert base(proxied, "10.0.0.1", **secure) == "https://t.example"
    assert base(proxied, "203.0.113.9", **secure) == "http://t.example"
    assert base(services(), "203.0.113.9") == "http://127.0.0.1:8400"


def test_cookies_as_they_are_set() -> None:
    assert cookies.given("t", secure=False) == [
        b"better-auth.session_token=t; Path=/; Max-Age=7776000; HttpOnly; SameSite=Lax"
    ]
    secure, plain = cookies.given("t", secure=True)
    assert secure.startswith(b"__Secure-better-auth.session_token=t; Path=/; Max-Age=7776000;")
    assert secure.endswith(b"; HttpOnly; SameSite=Lax; Secure")
    assert plain.startswith(b"better-auth.session_token=; Path=/; Max-Age=0;")
    assert [one.partition(b"=")[0].decode() for one in cookies.taken(secure=True)] == [
        cookies.SECURE_NAME,
        cookies.NAME,
    ]


@pytest.mark.parametrize(
    ("proxies", "peer", "forwarded", "found"),
    [
        ("", "203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("", "127.0.0.1", "198.51.100.1", "127.0.0.1"),
        ("10.0.0.0/8", "203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("10.0.0.0/8", "10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.0/8", "10.0.0.1", "192.0.2.66, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.0/8", "10.0.0.1", "192.0.2.66, 198.51.100.1, 10.2.2.2", "198.51.100.1"),
        ("10.0.0.0/8", "10.0.0.1", "rubbish", "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", "", "10.0.0.1"),
    ],
)
async def test_forwarded_addresses_count_from_trusted_proxies_only(
    proxies: str, peer: str, forwarded: str, found: str
) -> None:
    """Where a session is begun, and whose budget a guess counts against."""
    gate = application(services(trusted_proxies=proxies))._gate
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    scope = {"client": (peer, 1), "server": ("127.0.0.1", 8400), "headers": headers}
    visitor = gate.visitor(scope)
    assert (visitor.address, visitor.bucket) == (found, found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("public_url", "tocsin.example"),
        ("public_url", "ftp://tocsin.example"),
        ("public_url", "https://user@tocsin.example"),
        ("public_url", "https://tocsin.example/?x"),
        ("trusted_origins", "*"),
        ("trusted_origins", "null"),
        ("trusted_origins", "https://app.example/path"),
        ("trusted_origins", "https://app.example,app.example"),
    ],
)
def test_settings_that_are_no_origin_stop_the_start(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"TOCSIN_{name.upper()}"):
        load({name: value})
