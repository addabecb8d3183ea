"""Client certificates: whether a chain and a private key belong together and can be used for TLS.

Errors say what is wrong in fixed words: nothing of what was given is repeated.
"""

import hashlib
import re
from typing import TYPE_CHECKING

from tocsin.domain.exchange import Identity

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

PEM_CHARS_MAX = 16_384
CHAIN_MAX = 8
RSA_BITS_MIN = 2048
RSA_BITS_MAX = 4096
CURVES = ("secp256r1", "secp384r1", "secp521r1")

_PROBE = b"tocsin"
_KEY_BLOCK = re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----")


class BadCertificate(ValueError):
    """A chain or key can't be used; `member` says which one: `certificate` or `private_key`."""

    def __init__(self, member: str, message: str) -> None:
        super().__init__(message)
        self.member = member


def identity(certificate: str, private_key: str) -> Identity:
    """Chain and key with a name that is another one when either of them is."""
    digest = hashlib.sha256(f"{certificate}\0{private_key}".encode()).hexdigest()
    return Identity(name=digest, certificate=certificate, private_key=private_key)


def check_pair(certificate: str, private_key: str) -> None:
    """Raise `BadCertificate` unless the key is the first certificate's and TLS can use it.

    Takes some milliseconds. How long the certificate is valid is the target's to judge.
    """
    leaf = _leaf(certificate)
    _check_match(leaf, _key(private_key))


def _leaf(text: str) -> "Certificate":
    from cryptography import x509

    if len(text) > PEM_CHARS_MAX:
        raise BadCertificate("certificate", f"must be at most {PEM_CHARS_MAX} characters long")
    if _KEY_BLOCK.search(text):
        # It is shown to everyone who may read the channel.
        raise BadCertificate("certificate", "must not hold a private key")
    try:
        chain = x509.load_pem_x509_certificates(text.encode())
        chain[0].public_key()
    except Exception:
        # The reader raises more than ValueError: for a curve or a version that it doesn't know.
        raise BadCertificate("certificate", "is not a chain of certificates in PEM") from None
    if len(chain) > CHAIN_MAX:
        raise BadCertificate("certificate", f"must hold at most {CHAIN_MAX} certificates")
    return chain[0]


def _key(text: str) -> "PrivateKeyTypes":
    from cryptography.hazmat.primitives import serialization

    if len(text) > PEM_CHARS_MAX:
        raise BadCertificate("private_key", f"must be at most {PEM_CHARS_MAX} characters long")
    block = _KEY_BLOCK.search(text)
    if block and (block[1] == "ENCRYPTED " or "\nProc-Type: 4,ENCRYPTED" in text):
        raise BadCertificate("private_key", "must not be encrypted")
    try:
        # Proving an RSA key's primes takes up to 0.5 s, which nobody's request may cost; that the
        # key signs what the certificate verifies is shown below.
        return serialization.load_pem_private_key(
            text.encode(), password=None, unsafe_skip_rsa_key_validation=True
        )
    except Exception:
        raise BadCertificate("private_key", "is not a private key in PEM") from None


def _check_match(leaf: "Certificate", key: "PrivateKeyTypes") -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    public = leaf.public_key()
    match key:
        case rsa.RSAPrivateKey():
            if not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
                sizes = f"{RSA_BITS_MIN} to {RSA_BITS_MAX}"
                raise BadCertificate("private_key", f"an RSA key must have {sizes} bits")
        case ec.EllipticCurvePrivateKey():
            if key.curve.name not in CURVES:
                raise BadCertificate("private_key", "must be on the curve P-256, P-384 or P-521")
        case ed25519.Ed25519PrivateKey():
            pass
        case _:
            raise BadCertificate("private_key", "must be an RSA, EC or Ed25519 key")
    try:
        match key, public:
            case rsa.RSAPrivateKey(), rsa.RSAPublicKey():
                signature = key.sign(_PROBE, padding.PKCS1v15(), hashes.SHA256())
                public.verify(signature, _PROBE, padding.PKCS1v15(), hashes.SHA256())
            case ec.EllipticCurvePrivateKey(), ec.EllipticCurvePublicKey():
                algorithm = ec.ECDSA(hashes.SHA256())
                public.verify(key.sign(_PROBE, algorithm), _PROBE, algorithm)
            case ed25519.Ed25519PrivateKey(), ed25519.Ed25519PublicKey():
                public.verify(key.sign(_PROBE), _PROBE)
            case _:
                raise BadCertificate("private_key", "is not the key of the certificate")
    except BadCertificate:
        raise
    except Exception:
        raise BadCertificate("private_key", "is not the key of the certificate") from None
