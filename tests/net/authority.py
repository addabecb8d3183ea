"""A certificate authority for one test run: servers, clients, and what they present."""

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificatePublicKeyTypes,
)
from cryptography.x509.oid import NameOID

from tocsin.net import default_ssl_context


def key_pem(
    key: CertificateIssuerPrivateKeyTypes,
    *,
    format: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
    password: bytes | None = None,
) -> str:
    """A private key as text."""
    hidden: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        hidden = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, format, hidden).decode()


class Authority:
    """Signs certificates; what it makes lives in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self.certificate = self._sign(self.name, self.key.public_key(), [], 10, authority=True)
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        self.path = folder / "authority.pem"
        self.path.write_text(self.pem)

    def files(self, *names: x509.GeneralName, days: int = 10) -> Path:
        """A server's certificate and key for these names in one file."""
        certificate, key = self.pair(names=names, days=days, name="Target")
        path = self.folder / f"{abs(hash(certificate))}.pem"
        path.write_text(certificate + key)
        return path

    def server(
        self, *names: x509.GeneralName, days: int = 10, asks_client: bool = False
    ) -> ssl.SSLContext:
        """A server context with a certificate for these names; negative days have passed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.files(*names, days=days))
        if asks_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=self.pem)
        return context

    def client(self) -> ssl.SSLContext:
        """The product's own context, trusting this authority too."""
        context = default_ssl_context()
        context.load_verify_locations(cadata=self.pem)
        return context

    def pair(
        self,
        key: CertificateIssuerPrivateKeyTypes | None = None,
        *,
        names: Sequence[x509.GeneralName] = (),
        days: int = 10,
        name: str = "Client",
    ) -> tuple[str, str]:
        """Certificate and private key, both as PEM."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key.public_key(), names, days)
        return certificate.public_bytes(serialization.Encoding.PEM).decode(), key_pem(key)

    def _sign(
        self,
        subject: x509.Name,
        key: CertificatePublicKeyTypes,
        names: Sequence[x509.GeneralName],
        days: int,
        *,
        authority: bool = False,
    ) -> x509.Certificate:
        end = datetime.now(UTC) + timedelta(days=days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - timedelta(days=20))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())
