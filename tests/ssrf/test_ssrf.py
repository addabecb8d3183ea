"""No delivery, no test and no save ever opens a connection to an address that is not public.

The real service runs in a network where all of those addresses answer. Whatever is done, they
must not have taken a single connection. With `TOCSIN_TEST_EVERYTHING` names are kept for as long
as they really are.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.blackbox.server import SERVE, Reply, Server, Tenant, until
from tests.ssrf import forbidden, short_names
from tests.ssrf.answers import PORTS, World
from tests.ssrf.namespace import command, entered, lacking

pytestmark = pytest.mark.long

EVERYTHING = bool(os.environ.get("TOCSIN_TEST_EVERYTHING"))
FAILURE_CACHE_SECONDS = 5.0
CACHE_SECONDS = 30.0 if EVERYTHING else short_names.CACHE_SECONDS
COMMAND = SERVE if EVERYTHING else (sys.executable, "-P", short_names.__file__, "serve")
PUBLIC = forbidden.PUBLIC[0]
MISSING = lacking()
ONCE: dict[str, list[str]] = {"schedule": []}


def literal(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    if MISSING is not None:
        pytest.skip(f"SSRF IS NOT TESTED: {MISSING}")
    with entered(), World() as made:
        yield made


@pytest.fixture(scope="module")
def service(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(
        tmp_path_factory.mktemp("ssrf") / "data",
        {
            "requests_per_minute": 0,
            "allow_networks": "",
            "slack_client_id": "id",
            "slack_client_secret": "secret",
        },
        command=command(*COMMAND),
    )
    try:
        yield server.start()
        assert server.stop() == 0, server.said()
    finally:
        server.close()


@pytest.fixture(scope="module")
def tenant(service: Server) -> Tenant:
    return service.tenant("hostile", projects=["app"])


@pytest.fixture(autouse=True)
def nothing_forbidden_is_reached(world: World) -> Iterator[None]:
    world.addresses.forget()
    yield
    reached = {a: n for a, n in world.addresses.accepted.items() if a not in forbidden.PUBLIC}
    assert reached == {}


def save(tenant: Tenant, url: str, dialect: str) -> tuple[Reply, str]:
    """Try to save a channel; the reply, and the field that it must name."""
    call, key = tenant.server.call, tenant.key
    match dialect:
        case "native":
            body: Any = {"name": "x", "type": "webhook", "settings": {"url": url}}
            return tenant.call("POST", "/channels", body), "settings.url"
        case "slack":
            body = {"name": "x", "type": "slack", "settings": {"url": url}}
            return tenant.call("POST", "/channels", body), "settings.url"
        case "applivery":
            body = {"type": "webhook", "setup": {"webhook": {"url": url}}}
            path = f"/v1/organizations/{tenant.organization}/apps/app/notifications"
            return call("POST", path, body, token=key), "setup.webhook.url"
        case _:
            body = {"name": "x", "channel_type": "webhook", "config": {"url": url}}
            body["env_id"] = tenant.projects["app"]
            return call("POST", "/v1/notification-channels", body, token=key), "config.url"


DIALECTS = ("native", "slack", "applivery", "hookstream")


def refused(reply: Reply, field: str, *addresses: str) -> None:
    """The reply is a 400 that names the field, and no address."""
    assert reply.status == 400, reply
    said = reply.body.decode()
    assert field in said, said
    assert not [one for one in addresses if len(one) > 4 and one in said], said


def hooked(tenant: Tenant, host: str, path: str = "/hook", **fields: Any) -> str:
    """A channel to a host; its id."""
    made: str = tenant.channel(f"http://{host}{path}", retry=ONCE, **fields)["id"]
    return made


def attempts(tenant: Tenant, event: str, seconds: float = 60.0) -> dict[str, Any]:
    """The only attempt of every delivery of an event, by channel."""

    def look() -> Any:
        found = tenant.deliveries(event)
        return found if all(one["finished_at"] for one in found) else None

    done = until(look, f"deliveries of {event}", seconds)
    return {one["channel_id"]: tenant.attempts(one["id"])[-1] for one in done}


def test_every_address_would_answer(world: World) -> None:
    """Else the tests below prove nothing."""
    import socket

    for address in forbidden.ANSWERING:
        for port in PORTS:
            socket.create_connection((address, port), timeout=60).close()
    until(
        lambda: world.addresses.accepted.total() >= len(forbidden.ANSWERING) * len(PORTS),
        "all connections accepted",
    )
    world.addresses.forget()


def test_public_addresses_are_reached(world: World, tenant: Tenant) -> None:
    world.names.say("fine.example", forbidden.PUBLIC[:1])
    world.names.say("fine6.example", forbidden.PUBLIC[1:])
    hosts = [*map(literal, forbidden.PUBLIC), "fine.example", "fine6.example"]
    channels = [hooked(tenant, host, event_types=["fine.event"]) for host in hosts]
    made = attempts(tenant, tenant.publish("fine.event")["id"])
    assert {made[one]["outcome"] for one in channels} == {"delivered"}
    assert set(world.addresses.accepted) == set(forbidden.PUBLIC)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_forbidden_literal_is_not_saved(tenant: Tenant, dialect: str) -> None:
    for address in forbidden.ALL:
        for scheme in ("http", "https"):
            refused(*save(tenant, f"{scheme}://{literal(address)}/", dialect), address)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_disguised_literal_is_not_saved(tenant: Tenant, dialect: str) -> None:
    for host in forbidden.DISGUISED:
        refused(*save(tenant, f"http://{host}/", dialect))
    for scheme in ("file", "gopher", "ftp", "HTTP+UNIX", "dict", "javascript", ""):
        refused(*save(tenant, f"{scheme}://{PUBLIC}/", dialect))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_name_of_a_forbidden_address_is_not_saved(
    world: World, tenant: Tenant, dialect: str
) -> None:
    for number, address in enumerate(forbidden.ALL):
        name = f"{dialect}{number}.example"
        # Alone, and on either side of an address that is fine.
        mixed = [(address,), (PUBLIC, address), (address, PUBLIC)]
        for kind, answers in enumerate(mixed):
            world.names.say(f"{kind}.{name}", answers)
            refused(*save(tenant, f"http://{kind}.{name}/", dialect), address)


def test_a_change_to_a_forbidden_target_is_refused(world: World, tenant: Tenant) -> None:
    channel = hooked(tenant, PUBLIC, event_types=["no.event"])
    world.names.say("moved.example", (forbidden.METADATA[0],))
    for host in (*map(literal, forbidden.ALL), *forbidden.DISGUISED, "moved.example"):
        change = {"settings": {"url": f"http://{host}/"}}
        refused(tenant.call("PATCH", f"/channels/{channel}", change), "settings.url")


def test_a_name_that_turns_forbidden_after_the_save_is_not_called(
    world: World, tenant: Tenant
) -> None:
    """Names that did not exist, or were public, when the channel was saved: rebinding."""
    turned: dict[str, tuple[str, ...]] = {}
    for number, address in enumerate(forbidden.ALL):
        turned[f"late{number}.example"] = (address,)
        turned[f"mixed{number}.example"] = (PUBLIC, address) if number % 2 else (address, PUBLIC)
    for number, address in enumerate((*forbidden.METADATA, "127.0.0.1", "10.0.0.1", "::1")):
        name = f"rebound{number}.example"
        world.names.say(name, forbidden.PUBLIC)
        turned[name] = (address,)
    channels = {
        hooked(tenant, name, event_types=["turned.event"], name=name): name for name in turned
    }
    time.sleep(CACHE_SECONDS + 1)
    for name, answer in turned.items():
        world.names.say(name, answer)

    def all_resolved() -> Any:
        found = attempts(tenant, tenant.publish("turned.event")["id"])
        late = [one for one in channels if found[one]["error"].startswith("name_not_resolved")]
        return None if late else found

    made = until(all_resolved, "answers for every name")
    said = {name: made[channel]["error"] for channel, name in channels.items()}
    assert {name: why for name, why in said.items() if why.split(":")[0] != "address_refused"} == {}
    assert {made[one]["outcome"] for one in channels} == {"retry"}
    assert world.addresses.accepted == {}
    told = str(made) + str([tenant.get(f"/channels/{one}")["last_error"] for one in channels])
    assert not [one for one in forbidden.ALL if len(one) > 4 and one in told]


def test_a_name_with_a_new_answer_each_time_is_only_called_where_it_is_public(
    world: World, tenant: Tenant
) -> None:
    """Time of check is time of use: the vetted address is the one that is connected to."""
    channels = []
    for number, address in enumerate(("127.0.0.1", "169.254.169.254", "192.168.0.1")):
        world.names.say(f"flip{number}.example", (PUBLIC,), (address,))
        channels.append(hooked(tenant, f"flip{number}.example", event_types=["flip.event"]))
    outcomes: set[str] = set()

    def seen() -> bool:
        for one in attempts(tenant, tenant.publish("flip.event")["id"]).values():
            outcomes.add((one["error"] or one["outcome"]).split(":")[0])
        time.sleep(0.5)
        return outcomes >= {"delivered", "address_refused"}

    until(seen, "both answers", 4 * CACHE_SECONDS + 60)
    # A slow machine may have no answer in time; that is no address either.
    assert outcomes <= {"delivered", "address_refused", "name_not_resolved"}


def test_a_name_that_gets_its_first_address_is_called(world: World, tenant: Tenant) -> None:
    """It was there without an address when the channel was saved; that is not kept for long."""
    world.names.say("empty.example", ())
    channel = hooked(tenant, "empty.example", event_types=["first.event"])
    made = attempts(tenant, tenant.publish("first.event")["id"])
    assert made[channel]["error"].startswith("name_not_resolved")
    time.sleep(FAILURE_CACHE_SECONDS + 0.5)
    world.names.say("empty.example", (PUBLIC,))
    made = attempts(tenant, tenant.publish("first.event")["id"])
    assert made[channel]["outcome"] == "delivered"


def test_redirects_are_not_followed(world: World, tenant: Tenant) -> None:
    world.names.say("inner.example", ("10.0.0.1",))
    channels = {}
    for status in (301, 302, 303, 307, 308):
        for host in ("127.0.0.1", "169.254.169.254", "[::1]", "inner.example"):
            path = f"/redirect/{status}/{host}"
            channels[hooked(tenant, PUBLIC, path, event_types=["moved.event"])] = status
    made = attempts(tenant, tenant.publish("moved.event")["id"])
    assert {one: made[one]["status_code"] for one in channels} == channels
    assert world.addresses.accepted == {PUBLIC: len(channels)}


def test_a_test_send_is_judged_too(world: World, tenant: Tenant) -> None:
    channel = hooked(tenant, "tested.example", event_types=["no.event"])
    time.sleep(FAILURE_CACHE_SECONDS + 0.5)
    world.names.say("tested.example", ("169.254.169.254",))
    reply = tenant.call("POST", f"/channels/{channel}/test")
    assert reply.status == 200, reply
    assert reply.json()["success"] is False
    assert reply.json()["attempt"]["error"].startswith("address_refused")


def test_slack_at_a_forbidden_address_is_not_asked(world: World, tenant: Tenant) -> None:
    world.names.say("slack.com", ("10.0.0.1",))
    body = {"type": "slack", "setup": {"slack": {"code": "c", "redirectUri": "https://a.example"}}}
    path = f"/v1/organizations/{tenant.organization}/apps/app/notifications"
    reply = tenant.server.call("POST", path, body, token=tenant.key)
    assert reply.status == 503, reply
    assert b"10.0.0.1" not in reply.body


def test_a_network_that_is_no_longer_allowed_is_not_called(
    world: World, tmp_path: Path, service: Server
) -> None:
    """What was saved under another setting is judged by today's; also proves the setting."""
    server = Server(tmp_path / "data", {"allow_networks": "10.0.0.0/8"}, command=command(*SERVE))
    try:
        tenant = server.start().tenant("moving")
        channel = hooked(tenant, "10.1.2.3")
        refused(*save(tenant, "http://192.168.0.1/", "native"))
        made = attempts(tenant, tenant.publish("some.event")["id"])
        assert made[channel]["outcome"] == "delivered"
        assert world.addresses.accepted == {"10.1.2.3": 1}
        world.addresses.forget()
        assert server.stop() == 0
        server.settings["TOCSIN_ALLOW_NETWORKS"] = ""
        server.start()
        made = attempts(tenant, tenant.publish("some.event")["id"])
        assert made[channel]["error"].startswith("address_refused")
        assert server.stop() == 0
    finally:
        server.close()
