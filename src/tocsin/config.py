"""Every setting, once: an environment variable `TOCSIN_…`, a key of `tocsin.toml`, or a flag.

A secret may also come from a file named by `TOCSIN_…_FILE`. Order: flag, environment, file,
default. Secrets are taken out of the environment once they are read.
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from tocsin.domain.mail import MailServer, Sender, parse_mail_server, parse_sender

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Networks = Annotated[tuple[Network, ...], NoDecode]
Texts = Annotated[tuple[str, ...], NoDecode]

OPERATOR_TOKEN_CHARACTERS_MIN = 32
POSTGRES = ("postgresql://", "postgres://")


class ConfigError(Exception):
    """A setting can't be used; the message names it."""


class Settings(BaseSettings):
    """The effective settings. Units are the last word of a name; 0 means off where it says so."""

    model_config = SettingsConfigDict(env_prefix="TOCSIN_", extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8400, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    metrics_port: int = Field(
        0, ge=0, le=65535, description="port of /metrics for everybody; 0 is off"
    )
    public_url: str = Field(
        "", description="how people reach this server; default http://host:port"
    )
    data_dir: Path = Field(Path(".tocsin"), description="SQLite file, master key, operator token")
    store: str = Field(
        "", repr=False, description="empty: SQLite in the data directory; postgresql://… for nodes"
    )
    role: Literal["all", "api", "engine"] = Field(
        "all", description="of this node: all; api serves and publishes, engine delivers"
    )
    postgres_prepared: bool = Field(
        True, description="false where a proxy between here and PostgreSQL pools transactions"
    )
    operator_token: SecretStr | None = Field(None, description="comma-separated operator tokens")
    master_key: SecretStr | None = Field(None, description="comma-separated; the first one seals")
    allow_networks: Networks = Field((), description="networks the SSRF guard lets through")
    https_only: bool = Field(False, description="refuse http targets")
    proxy: SecretStr | None = Field(
        None, description="deliveries go out through it: http://user:password@host:port"
    )
    trusted_proxies: Networks = Field((), description="proxies whose forwarded headers count")
    trusted_origins: Texts = Field((), description="origins that may write with a cookie")
    requests_per_minute: int = Field(6000, ge=0, description="per organization; 0 is off")
    stranger_requests_per_minute: int = Field(600, ge=0, description="per address; 0 is off")
    connections_max: int = Field(1000, ge=1, description="inbound connections at once")
    connections_per_address_max: int = Field(100, ge=1, description="loopback is exempt")
    disk_reserve_mb: int = Field(64, ge=0, description="publishing is refused below it")
    publish_events_per_second: int = Field(0, ge=0, description="per organization; 0 is off")
    in_flight_max: int = Field(1000, ge=1, le=10000, description="attempts at once on this node")
    channel_in_flight_max: int = Field(64, ge=1, le=1000, description="attempts at once a channel")
    waiting_deliveries_per_organization_max: int = Field(
        2_000_000, ge=1, description="publishing is refused above it"
    )
    channels_per_organization_max: int = Field(1000, ge=1, le=5000, description="quota")
    alert_rules_per_organization_max: int = Field(200, ge=1, le=5000, description="quota")
    disable_after_hours: int = Field(
        120, ge=0, le=8760, description="of nothing but failures, a channel is disabled; 0 is off"
    )
    idempotency_hours: int = Field(24, ge=1, le=8760, description="how long a key is remembered")
    retention_days: int = Field(
        30, ge=1, le=36500, description="how long events, deliveries and attempts are kept"
    )
    delivery_days_max: int = Field(
        14, ge=1, le=36500, description="how long a delivery may wait; retention shortens it"
    )
    sign_in_failures_max: int = Field(
        10, ge=0, description="of one account in 15 minutes; 0 is off"
    )
    sign_in_failures_per_address_max: int = Field(
        30, ge=0, description="of one address in 15 minutes; 0 is off"
    )
    audit_days: int = Field(400, ge=1, le=36500, description="how long the audit log is kept")
    slack_client_id: str = Field("", description="Slack app, for channels made by OAuth")
    slack_client_secret: SecretStr | None = Field(None, description="of the Slack app")
    slack_api_url: str = Field("https://slack.com/api/", description="Slack's API")
    smtp_url: SecretStr | None = Field(
        None, description="the mail server, smtp://user:password@host:587 or smtps://…"
    )
    smtp_from: str = Field("", description="who mails come from: an address, or Name <address>")
    traces: bool = Field(
        False,
        description="send OpenTelemetry traces; needs the extra `traces`, see OTEL_… variables",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="")
    log_format: Literal["auto", "json", "console"] = Field("auto", description="auto: by terminal")

    @field_validator("allow_networks", "trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(
            ipaddress.ip_network(part.strip()) for part in value.split(",") if part.strip()
        )

    @field_validator("trusted_origins", mode="before")
    @classmethod
    def _origins(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(_origin(part.strip()) for part in value.split(",") if part.strip())

    @field_validator("public_url")
    @classmethod
    def _public_url(cls, value: str) -> str:
        if value:
            _origin(value, path=True)
        return value.rstrip("/")

    @field_validator("operator_token")
    @classmethod
    def _operator_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        for token in value.get_secret_value().split(","):
            if len(token.strip()) < OPERATOR_TOKEN_CHARACTERS_MIN:
                raise ValueError(
                    f"is shorter than {OPERATOR_TOKEN_CHARACTERS_MIN} characters; "
                    "`openssl rand -hex 32` makes one"
                )
        return value

    @field_validator("smtp_url")
    @classmethod
    def _smtp_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        parse_mail_server(value.get_secret_value())
        return value

    @field_validator("smtp_from")
    @classmethod
    def _smtp_from(cls, value: str) -> str:
        if value:
            parse_sender(value)
        return value

    @field_validator("store")
    @classmethod
    def _store(cls, value: str) -> str:
        if value and not value.startswith(("sqlite:///", *POSTGRES)):
            raise ValueError("must be sqlite:///path or postgresql://user:password@host/name")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        path = Path(os.environ.get("TOCSIN_CONFIG", "tocsin.toml"))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, path)

    @property
    def postgres(self) -> bool:
        """Whether the store is a PostgreSQL database, which other nodes may share."""
        return self.store.startswith(POSTGRES)

    @property
    def serves(self) -> bool:
        """Whether this node has an API."""
        return self.role != "engine"

    @property
    def delivers(self) -> bool:
        """Whether this node claims and sends what waits, and does the duties."""
        return self.role != "api"

    @property
    def delivery_hours_max(self) -> int:
        """How long a delivery may wait: it ends a day before it would be removed, or, where that is
        sooner, 12 hours after it was made."""
        return max(min(self.delivery_days_max, self.retention_days - 1) * 24, 12)

    @property
    def sqlite_path(self) -> Path:
        """Where the SQLite file is."""
        if self.store.startswith("sqlite:///"):
            return Path(self.store.removeprefix("sqlite:///"))
        return self.data_dir / "tocsin.db"


def _origin(text: str, *, path: bool = False) -> str:
    """The text, if it is `http(s)://host[:port]`, and with `path` perhaps more."""
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and bool(parts.hostname)
        known = known and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
        parts = urlsplit("")
    more = parts.path.strip("/") and not path
    if not known or more or parts.query or parts.fragment or "@" in text or text != text.strip():
        raise ValueError("must be like https://tocsin.example" + (" (a path is allowed)" * path))
    return text.rstrip("/")


SECRET_SETTINGS = tuple(
    name for name, field in Settings.model_fields.items() if field.annotation == (SecretStr | None)
)


# An address may have a password in it: it comes and goes like a secret, and is shown without it.
FILE_SETTINGS = (*SECRET_SETTINGS, "store")
_PASSWORD = re.compile(r"(?<=:)[^:/@]+(?=@)|(?<=[?&]password=)[^&]+")


def load(flags: Mapping[str, Any] | None = None) -> Settings:
    """Read the effective settings; raises `ConfigError` naming the first setting that is wrong."""
    given = dict(flags or {})
    for name in FILE_SETTINGS:
        path = os.environ.pop(f"TOCSIN_{name.upper()}_FILE", None)
        if path is not None and name not in given:
            try:
                given[name] = Path(path).read_text().strip()
            except OSError as error:
                raise ConfigError(
                    f"TOCSIN_{name.upper()}_FILE: can't read {path}: {error.strerror}"
                ) from None
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]).upper()
        reason = str(first["msg"]).removeprefix("Value error, ")
        known = first["type"] != "extra_forbidden"
        raise ConfigError(
            f"TOCSIN_{name}: {reason}" if known else f"there is no setting {name.lower()}"
        ) from None
    finally:
        for name in FILE_SETTINGS:
            os.environ.pop(f"TOCSIN_{name.upper()}", None)


def master_keys(settings: Settings) -> str | None:
    """The master keys as they were given, comma-separated; None when they were not."""
    given = settings.master_key
    return None if given is None else given.get_secret_value()


def check_for_nodes(settings: Settings) -> None:
    """Raise `ConfigError` unless what all nodes of a PostgreSQL database share is set; on a file,
    where there is no other node to share the work with."""
    if not settings.postgres:
        if settings.role != "all":
            raise ConfigError(
                f"TOCSIN_ROLE: {settings.role} leaves the rest of the work to other nodes, and a "
                "SQLite file has one node: leave it at all, or set TOCSIN_STORE to a PostgreSQL "
                "database"
            )
        return
    if settings.master_key is None:
        raise ConfigError(
            "TOCSIN_MASTER_KEY: all nodes on one PostgreSQL share it, so it must be set; "
            "`openssl rand -base64 32 | tr +/ -_` makes one"
        )
    if settings.operator_token is None:
        raise ConfigError(
            "TOCSIN_OPERATOR_TOKEN: all nodes on one PostgreSQL share it, so it must be set; "
            "`openssl rand -hex 32` makes one"
        )


def operator_tokens(settings: Settings) -> tuple[str, ...]:
    """The operator tokens that were given, the first one first."""
    given = settings.operator_token
    if given is None:
        return ()
    return tuple(token.strip() for token in given.get_secret_value().split(","))


def proxy_url(settings: Settings) -> str | None:
    """The proxy for what goes out, as it was given; None when there is none."""
    given = settings.proxy
    return (given.get_secret_value() or None) if given is not None else None


def mail_settings(settings: Settings) -> tuple[MailServer, Sender] | None:
    """Where mails go out and who they come from, or None; raises `ConfigError` for half of it."""
    if settings.smtp_url is None:
        return None
    if not settings.smtp_from:
        raise ConfigError("TOCSIN_SMTP_FROM: TOCSIN_SMTP_URL needs it, too: who mails come from")
    url = settings.smtp_url.get_secret_value()
    return parse_mail_server(url), parse_sender(settings.smtp_from)


def store_shown(settings: Settings) -> str:
    """Where the data is, without a password."""
    if settings.postgres:
        return _PASSWORD.sub("••••", settings.store)
    return str(settings.sqlite_path)


def shown(settings: Settings) -> dict[str, Any]:
    """The settings as they may be printed, secrets masked."""
    rows: dict[str, Any] = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = "••••"
        elif name == "store":
            value = _PASSWORD.sub("••••", value)
        elif isinstance(value, tuple):
            value = ",".join(str(part) for part in value)
        elif isinstance(value, Path):
            value = str(value)
        rows[f"TOCSIN_{name.upper()}"] = value
    return rows
