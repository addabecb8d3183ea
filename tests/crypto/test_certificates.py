"""Client certificates: which pairs are taken, and that errors repeat nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import PrivateFormat
from tests.net.authority import Authority, key_pem

from tocsin.crypto.certificates import CHAIN_MAX, BadCertificate, check_pair, identity


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder: Path = tmp_path_factory.mktemp("authority")
    return Authority(folder)


Make = Callable[[], CertificateIssuerPrivateKeyTypes]

KEYS: dict[str, Make] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_pair_that_belongs_together(authority: Authority, kind: str) -> None:
    certificate, key = authority.pair(KEYS[kind]())
    check_pair(certificate, key)
    check_pair(f"Bag Attributes\n{certificate}{authority.pem}", key)
    check_pair(certificate.replace("\n", "\r\n"), key.replace("\n", "\r\n"))


def test_older_forms_of_a_key(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate, _ = authority.pair(key)
    check_pair(certificate, key_pem(key, format=PrivateFormat.TraditionalOpenSSL))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: rsa.generate_private_key(65537, 1024), "2048 to 4096 bits"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "P-256, P-384 or P-521"),
        (ed448.Ed448PrivateKey.generate, "RSA, EC or Ed25519"),
    ],
)
def test_keys_that_are_not_taken(authority: Authority, make: Make, words: str) -> None:
    certificate, key = authority.pair(make())
    with pytest.raises(BadCertificate, match=words) as refused:
        check_pair(certificate, key)
    assert refused.value.member == "private_key"


@pytest.mark.parametrize("kind", KEYS)
def test_another_key_of_every_kind(authority: Authority, kind: str) -> None:
    certificate, _ = authority.pair(KEYS[kind]())
    for other in ("P-256", "Ed25519", "RSA"):
        with pytest.raises(BadCertificate, match="not the key of the certificate") as refused:
            check_pair(certificate, key_pem(KEYS[other]()))
        assert refused.value.member == "private_key"


BODY = "-----BEGIN {0}-----\nc4n4ry\n-----END {0}-----\n"


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        ("c4n4ry", "is not a chain"),
        (BODY.format("CERTIFICATE"), "is not a chain"),
        (BODY.format("PRIVATE KEY"), "must not hold a private key"),
        (BODY.format("RSA PRIVATE KEY"), "must not hold a private key"),
        ("c4n4ry" * 4000, "characters long"),
    ],
)
def test_certificates_that_are_none(authority: Authority, certificate: str, words: str) -> None:
    with pytest.raises(BadCertificate, match=words) as refused:
        check_pair(certificate, authority.pair()[1])
    assert refused.value.member == "certificate"
    assert "c4n4ry" not in str(refused.value)


def test_a_certificate_file_that_holds_its_key_too(authority: Authority) -> None:
    certificate, key = authority.pair()
    with pytest.raises(BadCertificate, match="must not hold a private key"):
        check_pair(certificate + key, key)


def test_too_long_a_chain(authority: Authority) -> None:
    certificate, key = authority.pair()
    check_pair(certificate + authority.pem * (CHAIN_MAX - 1), key)
    with pytest.raises(BadCertificate, match="at most 8 certificates"):
        check_pair(certificate + authority.pem * CHAIN_MAX, key)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("c4n4ry", "is not a private key"),
        (BODY.format("PRIVATE KEY"), "is not a private key"),
        (BODY.format("ENCRYPTED PRIVATE KEY"), "must not be encrypted"),
        ("c4n4ry" * 4000, "characters long"),
    ],
)
def test_keys_that_are_none(authority: Authority, key: str, words: str) -> None:
    with pytest.raises(BadCertificate, match=words) as refused:
        check_pair(authority.pair()[0], key)
    assert refused.value.member == "private_key"
    assert "c4n4ry" not in str(refused.value)


@pytest.mark.parametrize("format", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key(authority: Authority, format: PrivateFormat) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate, _ = authority.pair(key)
    with pytest.raises(BadCertificate, match="must not be encrypted"):
        check_pair(certificate, key_pem(key, format=format, password=b"c4n4ry"))


def test_an_identity_is_named_by_both_and_shows_neither() -> None:
    one = identity("chain", "c4n4ry")
    assert one == identity("chain", "c4n4ry")
    assert len({one.name, identity("chain", "other").name, identity("", "chain\0c4n4ry").name}) == 3
    assert "c4n4ry" not in repr(one)
    assert "c4n4ry" not in one.name
