import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.crypto.sealing import (
    BadMasterKey,
    Sealer,
    UnsealFailed,
    fingerprint,
    new_master_key,
    parse_master_keys,
)

OLD, NEW = new_master_key(), new_master_key()
SEALER = Sealer((OLD,))


@given(st.binary(max_size=200))
def test_what_is_sealed_opens_for_its_owner(secret: bytes) -> None:
    blob = SEALER.seal(secret, "org", "channel")
    assert SEALER.unseal(blob, "org", "channel") == secret
    assert len(secret) < 8 or secret not in blob


@pytest.mark.parametrize("owner", [("org2", "channel"), ("org", "channel2"), ("", ""), ("or", "g")])
def test_it_opens_nowhere_else(owner: tuple[str, str]) -> None:
    blob = SEALER.seal(b"secret", "org", "channel")
    with pytest.raises(UnsealFailed):
        SEALER.unseal(blob, *owner)


def test_it_opens_under_no_other_key_and_not_when_damaged() -> None:
    blob = SEALER.seal(b"secret", "org", "channel")
    with pytest.raises(UnsealFailed):
        Sealer((NEW,)).unseal(blob, "org", "channel")
    for damaged in (b"", b"\xff", blob[:-1], blob[:40] + b"A" + blob[41:]):
        with pytest.raises(UnsealFailed):
            SEALER.unseal(damaged, "org", "channel")


def test_keys_rotate() -> None:
    blob = SEALER.seal(b"secret", "org", "channel")
    both = Sealer((NEW, OLD))
    assert both.unseal(blob, "org", "channel") == b"secret"
    fresh = both.reseal(blob)
    assert Sealer((NEW,)).unseal(fresh, "org", "channel") == b"secret"
    with pytest.raises(UnsealFailed):
        SEALER.unseal(fresh, "org", "channel")
    with pytest.raises(UnsealFailed):
        Sealer((NEW,)).reseal(blob)


def test_a_setting_holds_several_keys() -> None:
    assert parse_master_keys(f" {NEW} , {OLD.rstrip('=')},") == (NEW, OLD.rstrip("="))
    assert fingerprint(OLD) == fingerprint(OLD.rstrip("="))


@pytest.mark.parametrize(
    "text",
    ["", " , ", "short", "x" * 40 + "!", "ä" * 43, "QUJD", f"{OLD},short", OLD + "\0"],
    ids=["empty", "comma", "short", "odd", "not ASCII", "few bytes", "second short", "NUL"],
)
def test_bad_keys_are_refused_without_repeating_them(text: str) -> None:
    with pytest.raises(BadMasterKey) as caught:
        parse_master_keys(text)
    assert len(text) < 8 or text not in str(caught.value)


def test_fingerprints_tell_keys_apart_and_reveal_nothing() -> None:
    assert SEALER.fingerprints == (fingerprint(OLD),)
    assert fingerprint(OLD) != fingerprint(NEW)
    assert len(fingerprint(OLD)) == 16
    assert OLD not in repr(SEALER)


def test_derived_keys_differ_by_purpose_and_master_key() -> None:
    keys = {SEALER.derive("cursor"), SEALER.derive("form"), Sealer((NEW,)).derive("cursor")}
    assert len(keys) == 3
    assert SEALER.derive("cursor") == Sealer((OLD, NEW)).derive("cursor")
