import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
import standardwebhooks
import svix
from hypothesis import given
from hypothesis import strategies as st

from tocsin.crypto.signing import (
    decode_secret,
    hookstream_signature,
    new_secret,
    sign,
    verify,
)

ID = "019ac0ffee00000001000000"
NOW = int(datetime.now(UTC).timestamp())
SECRET = new_secret()
OTHER = new_secret()


def fresh() -> int:
    """Foreign verifiers go by the clock, and this module may have been read long ago."""
    return int(datetime.now(UTC).timestamp())


def headers(signature: str, timestamp_s: int) -> dict[str, str]:
    return {
        "webhook-id": ID,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": signature,
    }


def test_the_specification_s_own_example() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signature = sign((secret,), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_has_32_random_bytes() -> None:
    assert SECRET.startswith("whsec_")
    assert len(decode_secret(SECRET)) == 32
    assert SECRET != OTHER
    assert decode_secret(SECRET) == base64.b64decode(SECRET[6:])


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!!", "whsec_YQ", "whsec_YQ==x", "ä"])
def test_what_is_no_secret_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(ValueError, match="secret") as caught:
        decode_secret(secret)
    assert len(secret) < 7 or secret[6:] not in str(caught.value)


@given(st.binary(max_size=600))
def test_foreign_verifiers_accept_any_body(body: bytes) -> None:
    now = fresh()
    signature = sign((SECRET,), ID, now, body)
    if body.decode(errors="replace").encode() == body:  # they read the body as UTF-8
        standardwebhooks.Webhook(SECRET).verify(body, headers(signature, now), json_parse=False)
    assert verify(SECRET, ID, str(now), signature, body, now)


@pytest.mark.parametrize("known", [SECRET, OTHER], ids=["new", "old"])
def test_either_secret_of_a_rotation_verifies(known: str) -> None:
    body = '{"data": "ü"}'.encode()
    now = fresh()
    signature = sign((SECRET, OTHER), ID, now, body)
    assert signature.count(" ") == 1
    svix.Webhook(known).verify(body, headers(signature, now))
    standardwebhooks.Webhook(known).verify(body, headers(signature, now))
    assert verify(known, ID, str(now), signature, body, now)


@pytest.mark.parametrize(
    ("id", "timestamp", "signature", "body", "now_s"),
    [
        ("other", str(NOW), None, b"body", NOW),
        (ID, str(NOW + 1), None, b"body", NOW),
        (ID, str(NOW), "v1,", b"body", NOW),
        (ID, str(NOW), "", b"body", NOW),
        (ID, str(NOW), "ä", b"body", NOW),
        (ID, str(NOW), None, b"other", NOW),
        (ID, str(NOW), None, b"body", NOW + 301),
        (ID, str(NOW), None, b"body", NOW - 301),
        (ID, "", None, b"body", NOW),
        (ID, "9" * 5000, None, b"body", NOW),
        (ID, "٥", None, b"body", NOW),
    ],
    ids=[
        "another message",
        "another timestamp",
        "empty signature",
        "no signature",
        "not ASCII",
        "another body",
        "too old",
        "too new",
        "no timestamp",
        "endless timestamp",
        "another digit",
    ],
)
def test_what_does_not_verify(
    id: str, timestamp: str, signature: str | None, body: bytes, now_s: int
) -> None:
    good = sign((SECRET,), ID, NOW, b"body")
    assert verify(SECRET, ID, str(NOW), "v1a,x " + good, b"body", NOW)
    assert not verify(SECRET, id, timestamp, good if signature is None else signature, body, now_s)


def test_hookstream_signs_the_raw_body() -> None:
    expected = hmac.new("söcret".encode(), b"body", hashlib.sha256).hexdigest()
    assert hookstream_signature("söcret", b"body") == f"sha256={expected}"


@given(st.binary(min_size=1, max_size=200), st.binary(max_size=500))
def test_the_signature_is_the_hmac_of_the_standard_library(key: bytes, body: bytes) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    expected = hmac.digest(key, b"msg.5." + body, "sha256")
    assert sign((secret,), "msg", 5, body) == "v1," + base64.b64encode(expected).decode()
