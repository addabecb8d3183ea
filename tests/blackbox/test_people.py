"""People on a real process: headers as proxies send them, the limit of hashes, and the restart."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.blackbox.conftest import NewServer
from tests.blackbox.server import API, Reply, Server

PASSWORD = "correct horse battery"
SIGN_IN = f"{API}/auth/sign-in"
SESSION = f"{API}/auth/session"


def person(server: Server, name: str) -> str:
    """A new admin of a new organization; returns the address."""
    tenant = server.tenant(name)
    email = f"{name}@example.com"
    body = {"email": email, "organization": tenant.organization, "role": "admin"}
    made = server.call("POST", f"{API}/users", body, token=server.operator_token)
    assert made.status == 201, made
    token = made.json()["link"]["url"].rpartition("/")[2]
    used = server.call("POST", f"{API}/auth/links/{token}", {"password": PASSWORD}, token=None)
    assert used.status == 200, used
    return email


def sign_in(server: Server, email: str, password: str = PASSWORD, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"email": email, "password": password}
    return server.call("POST", SIGN_IN, body, token=None, headers=named)


def session(server: Server, reply: Reply) -> Any:
    cookie = reply.headers["set-cookie"].partition(";")[0]
    found = server.call("GET", f"{API}/auth/sessions", token=None, headers={"cookie": cookie})
    assert found.status == 200, found
    return next(one for one in found.json()["data"] if one["current"])


def test_headers_of_strangers_change_nothing(new_server: NewServer) -> None:
    server = new_server().start()
    email = person(server, "ann")
    spoofed = {"x_forwarded_for": "198.51.100.7", "x_forwarded_proto": "https"}
    reply = sign_in(server, email, **spoofed, forwarded="for=198.51.100.7;proto=https")
    assert reply.headers["set-cookie"].startswith("better-auth.session_token=")
    assert "Secure" not in reply.headers["set-cookie"]
    assert session(server, reply)["address"] == "127.0.0.1"
    # Another address a guess is no way around the limit.
    guesses = [
        sign_in(server, "nobody@example.com", "wrong wrong", x_forwarded_for=f"198.51.100.{n}")
        for n in range(12)
    ]
    assert [one.status for one in guesses] == [401] * 10 + [429] * 2
    origin = {"cookie": reply.headers["set-cookie"], "origin": "https://evil.example"}
    body = {"project": None}
    assert server.call("PATCH", SESSION, body, token=None, headers=origin).status == 403


def test_a_trusted_proxy_says_who_and_how(new_server: NewServer) -> None:
    server = new_server(trusted_proxies="127.0.0.0/8").start()
    email = person(server, "ann")
    reply = sign_in(
        server, email, x_forwarded_for="192.0.2.1, 198.51.100.7", x_forwarded_proto="https"
    )
    assert reply.status == 200
    # The last of the two Set-Cookie lines forgets the cookie of the other name.
    assert reply.headers["set-cookie"].startswith("better-auth.session_token=; Path=/; Max-Age=0")
    assert reply.headers["set-cookie"].endswith("; Secure")
    plain = sign_in(server, email, x_forwarded_for="198.51.100.7")
    assert session(server, plain)["address"] == "198.51.100.7"


@pytest.mark.long
def test_people_stay_signed_in_over_a_restart(new_server: NewServer) -> None:
    server = new_server().start()
    email = person(server, "ann")
    cookie = {"cookie": sign_in(server, email).headers["set-cookie"].partition(";")[0]}
    assert server.stop() == 0
    server.start()
    assert server.call("GET", SESSION, token=None, headers=cookie).status == 200
    assert server.call("POST", f"{API}/auth/sign-out", token=None, headers=cookie).status == 204
    server.kill()
    server.start()
    assert server.call("GET", SESSION, token=None, headers=cookie).status == 401


@pytest.mark.long
def test_a_crowd_that_signs_in_does_not_stop_publishing(new_server: NewServer) -> None:
    """Hashes have threads of their own; what is too much is refused, not queued for ever."""
    server = new_server(sign_in_failures_per_address_max=0).start()
    tenant = server.tenant("crowded")

    def stranger(number: int) -> int:
        return sign_in(server, f"{number}@example.com", "wrong wrong wrong").status

    with ThreadPoolExecutor(60) as crowd:
        waiting = [crowd.submit(stranger, number) for number in range(180)]
        for _ in range(20):
            tenant.publish(data=1)
        statuses = {one.result() for one in waiting}
    assert 401 in statuses
    assert statuses <= {401, 503}
    assert tenant.publish(data=1)["id"]
