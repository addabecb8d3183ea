"""What a webhook proves itself with to its target: Authorization and a client certificate."""

from base64 import b64decode
from typing import Any

import pytest
from tests.channels.contract import SECRET, sending
from tests.net.authority import Authority

from tocsin.channels import channel_types, dump
from tocsin.domain.errors import Invalid
from tocsin.domain.model import Secrets
from tocsin.domain.text import MASK

WEBHOOK = channel_types()["webhook"]
URL = "https://example.com/hook"
BASIC = {"type": "basic", "username": "Aladdin", "password": "open: sésame"}
BEARER = {"type": "bearer", "token": "mF_9.B5f-4.1JqM~+/=="}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def settings(**members: Any) -> dict[str, Any]:
    return {"url": URL, **members}


def refused(raw: dict[str, Any], headers: dict[str, str] | None = None) -> str:
    """The field that is named when this is saved."""
    with pytest.raises(Invalid) as caught:
        WEBHOOK.check_saved(dump(WEBHOOK.parse_settings(raw)), headers or {})
    assert "c4n4ry" not in str(caught.value)
    return caught.value.problems[0].field


def test_basic_and_bearer_are_sent_and_survive_signing() -> None:
    for auth in (BASIC, BEARER):
        parsed = WEBHOOK.parse_settings(settings(auth=auth))
        request = WEBHOOK.build(sending(), parsed)
        signed = WEBHOOK.sign(
            request, sending(), Secrets(settings=dump(parsed), secret=SECRET), 1_700_000_000
        )
        scheme, _, value = dict(signed.headers)["authorization"].partition(" ")
        if auth is BASIC:
            assert (scheme, b64decode(value).decode()) == ("Basic", "Aladdin:open: sésame")
        else:
            assert (scheme, value) == ("Bearer", BEARER["token"])
    plain = WEBHOOK.build(sending(), WEBHOOK.parse_settings(settings()))
    assert "authorization" not in dict(plain.headers)
    assert plain.identity is None


def test_the_identity_of_a_request(authority: Authority) -> None:
    certificate, key = authority.pair()
    pair = {"certificate": certificate, "private_key": key}
    parsed = WEBHOOK.parse_settings(settings(client_certificate=pair))
    request = WEBHOOK.build(sending(), parsed)
    secrets = Secrets(settings=dump(parsed), secret=SECRET)
    identity = WEBHOOK.sign(request, sending(), secrets, 1_700_000_000).identity
    assert identity is not None
    assert (identity.certificate, identity.private_key) == (certificate, key)
    assert key.splitlines()[1] not in f"{request!r} {parsed!r}"


@pytest.mark.parametrize(
    ("auth", "field"),
    [
        ("c4n4ry", "settings.auth"),
        ({}, "settings.auth.type"),
        ({"type": "digest"}, "settings.auth.type"),
        ({"type": "basic", "username": "a"}, "settings.auth.password"),
        ({"type": "basic", "password": "c4n4ry"}, "settings.auth.username"),
        (BASIC | {"username": ""}, "settings.auth.username"),
        (BASIC | {"username": "a:b"}, "settings.auth.username"),
        (BASIC | {"username": "a\nb"}, "settings.auth.username"),
        (BASIC | {"username": "a" * 257}, "settings.auth.username"),
        (BASIC | {"password": ""}, "settings.auth.password"),
        (BASIC | {"password": "c4n4ry\t"}, "settings.auth.password"),
        (BASIC | {"password": "c4n4ry\0"}, "settings.auth.password"),
        (BASIC | {"password": "c4n4ry" * 200}, "settings.auth.password"),
        (BASIC | {"token": "c4n4ry"}, "settings.auth.token"),
        ({"type": "bearer"}, "settings.auth.token"),
        ({"type": "bearer", "token": ""}, "settings.auth.token"),
        ({"type": "bearer", "token": "c4n4ry b"}, "settings.auth.token"),
        ({"type": "bearer", "token": "c4n4ry\n"}, "settings.auth.token"),
        ({"type": "bearer", "token": "c4n4ryé"}, "settings.auth.token"),
        ({"type": "bearer", "token": "a" * 4001}, "settings.auth.token"),
    ],
)
def test_what_is_no_authorization(auth: Any, field: str) -> None:
    assert refused(settings(auth=auth)) == field


def test_only_one_authorization() -> None:
    own = {"X-Own": "1", "AUTHORIZATION": "c4n4ry"}
    assert refused(settings(auth=BASIC), own) == "headers.AUTHORIZATION"
    WEBHOOK.check_saved(settings(auth=BASIC), {"X-Own": "1"})
    WEBHOOK.check_saved(settings(), own)


def test_a_client_certificate_is_checked_when_it_is_saved(authority: Authority) -> None:
    certificate, key = authority.pair()
    where = "settings.client_certificate"
    good = {"certificate": certificate, "private_key": key}
    WEBHOOK.check_saved(settings(client_certificate=good), {})
    for bad, field in (
        ("c4n4ry", where),
        ({}, f"{where}.certificate"),
        ({"certificate": certificate}, f"{where}.private_key"),
        (good | {"private_key": ""}, f"{where}.private_key"),
        (good | {"private_key": "c4n4ry"}, f"{where}.private_key"),
        (good | {"private_key": authority.pair()[1]}, f"{where}.private_key"),
        (good | {"private_key": "c4n4ry" * 4000}, f"{where}.private_key"),
        (good | {"certificate": "c4n4ry"}, f"{where}.certificate"),
        (good | {"certificate": certificate + key}, f"{where}.certificate"),
        (good | {"password": "c4n4ry"}, f"{where}.password"),
    ):
        assert refused(settings(client_certificate=bad)) == field
    plain = {"url": "http://example.com/", "client_certificate": good}
    assert refused(plain) == where


def test_only_secret_members_are_masked(authority: Authority) -> None:
    certificate, key = authority.pair()
    stored = settings(
        auth=BASIC, client_certificate={"certificate": certificate, "private_key": key}
    )
    shown = WEBHOOK.mask(stored)
    assert shown["auth"] == BASIC | {"password": MASK}
    assert shown["client_certificate"] == {"certificate": certificate, "private_key": MASK}
    assert WEBHOOK.mask(settings(auth=BEARER))["auth"] == BEARER | {"token": MASK}
    assert WEBHOOK.merge_masked(shown, stored) == stored
    half_masked = shown["auth"] | {"username": "other"}
    with pytest.raises(Invalid, match=r"settings\.auth: is a masked value"):
        WEBHOOK.merge_masked({"auth": half_masked}, stored)
    assert "auth" not in WEBHOOK.merge_masked({"auth": None}, stored)


@pytest.mark.parametrize(
    "url", ["https://other.example/", "http://example.com/hook", "https://example.com:444/hook"]
)
def test_credentials_do_not_follow_the_url_to_another_origin(url: str) -> None:
    pair = {"certificate": "chain", "private_key": "key"}
    stored = settings(auth=BEARER, client_certificate=pair, signing_secret="kept")
    shown = WEBHOOK.mask(stored)
    assert WEBHOOK.merge_masked({"url": url}, stored) == {"url": url, "signing_secret": "kept"}
    for name in ("auth", "client_certificate"):
        with pytest.raises(Invalid, match="must be sent again"):
            WEBHOOK.merge_masked({"url": url, name: shown[name]}, stored)
    new = {"url": url, "auth": BASIC}
    assert WEBHOOK.merge_masked(new, stored) == new | {"signing_secret": "kept"}
    elsewhere = {"url": "https://example.com/elsewhere"}
    assert WEBHOOK.merge_masked(elsewhere, stored) == stored | elsewhere
