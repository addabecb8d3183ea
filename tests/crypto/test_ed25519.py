"""`v1a` signatures: verified by `cryptography`, and no trouble to verifiers of `v1`."""

import base64
from datetime import UTC, datetime

import pytest
import standardwebhooks
import svix
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tocsin.crypto import ed25519
from tocsin.crypto.signing import new_secret, sign, verify

ID = "019ac0ffee00000001000000"
NOW = int(datetime.now(UTC).timestamp())
BODY = '{"data":"ü"}'.encode()
SECRET = new_secret()
KEY = ed25519.new_private_key()
PUBLIC = ed25519.public_key(KEY)


def test_the_forms_of_the_keys() -> None:
    raw = base64.b64decode(KEY.removeprefix("whsk_"), validate=True)
    public = base64.b64decode(PUBLIC.removeprefix("whpk_"), validate=True)
    assert (len(raw), len(public)) == (64, 32)
    assert raw[32:] == public
    assert Ed25519PrivateKey.from_private_bytes(raw[:32]).public_key().public_bytes_raw() == public
    assert ed25519.new_private_key() != KEY


def test_cryptography_verifies_what_is_signed_beside_v1() -> None:
    v1, v1a = sign((SECRET, KEY), ID, NOW, BODY).split(" ")
    assert v1 == sign((SECRET,), ID, NOW, BODY)
    assert v1a.startswith("v1a,")
    raw = base64.b64decode(v1a.removeprefix("v1a,"), validate=True)
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(PUBLIC.removeprefix("whpk_")))
    public.verify(raw, f"{ID}.{NOW}.".encode() + BODY)
    with pytest.raises(InvalidSignature):
        public.verify(raw, f"{ID}.{NOW}.".encode() + BODY + b" ")


@pytest.mark.parametrize("order", [(SECRET, KEY), (KEY, SECRET)])
def test_foreign_verifiers_pass_over_it(order: tuple[str, str]) -> None:
    # They go by the clock, and this module may have been read long ago.
    now = int(datetime.now(UTC).timestamp())
    headers = {
        "webhook-id": ID,
        "webhook-timestamp": str(now),
        "webhook-signature": sign(order, ID, now, BODY),
    }
    standardwebhooks.Webhook(SECRET).verify(BODY, headers)
    svix.Webhook(SECRET).verify(BODY, headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(new_secret()).verify(BODY, headers)


def test_our_own_verifier_takes_a_public_key() -> None:
    both = sign((SECRET, KEY), ID, NOW, BODY)
    assert verify(PUBLIC, ID, str(NOW), both, BODY, NOW)
    assert verify(SECRET, ID, str(NOW), both, BODY, NOW)
    other = ed25519.public_key(ed25519.new_private_key())
    assert not verify(other, ID, str(NOW), both, BODY, NOW)
    assert not verify(PUBLIC, ID, str(NOW), both, BODY + b" ", NOW)
    assert not verify(PUBLIC, ID, str(NOW), both, BODY, NOW + 400)
    for signatures in ("", "v1a,", "v1a,!", "v1a,YQ==", sign((SECRET,), ID, NOW, BODY)):
        assert not verify(PUBLIC, ID, str(NOW), signatures, BODY, NOW)


@pytest.mark.parametrize(
    "text",
    ["whpk_", "whpk_!!", "whpk_YQ==", KEY, SECRET, ""],
    ids=["nothing", "odd", "few bytes", "private", "secret", "empty"],
)
def test_what_is_no_public_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="whpk_ key") as caught:
        ed25519.check_public_key(text)
    assert len(text) < 7 or text[6:] not in str(caught.value)
