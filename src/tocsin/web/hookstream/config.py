"""hookstream's `config` of a channel, and the native settings that it stands for."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tocsin.domain.errors import Invalid
from tocsin.web.hookstream import place

# Per type: the keys of `config` that stand for another setting. Other types keep their own names.
_ALIASES: dict[str, dict[str, str]] = {
    "webhook": {"url": "url", "secret": "signing_secret"},
    "slack": {"url": "url", "webhook_url": "url"},
    "discord": {"url": "url", "webhook_url": "url"},
    "email": {"to": "to", "email": "to"},
}

_encode = msgspec.json.Encoder().encode


def settings_of(type: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The native settings; raises Invalid naming `config.<key>`."""
    aliases = _ALIASES.get(type)
    if aliases is None:
        return dict(config)
    settings: dict[str, Any] = {}
    for key, value in config.items():
        name = aliases.get(key)
        if name is None:
            raise Invalid(f"config.{key[:128]}", "is not known")
        if name in settings:
            raise Invalid(f"config.{key}", "is another name of a key that is there already")
        if value == "" and key == "secret":
            raise Invalid("config.secret", "must not be empty")
        settings[name] = [value] if name == "to" and isinstance(value, str) else value
    required = next(iter(aliases.values()))
    if required not in settings:
        raise Invalid(f"config.{required}", "is required")
    return settings


def replacing(type: str, config: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """The native change that makes `config` the whole of it: what is left out is removed, but
    settings that this dialect does not show stay. Raises Invalid naming `config.<key>`.

    `known` are all settings that the type has.
    """
    aliases = _ALIASES.get(type)
    shown = known if aliases is None else tuple(aliases.values())
    return dict.fromkeys(shown) | settings_of(type, config)


def config_text(type: str, settings: Mapping[str, Any]) -> str:
    """The masked settings as this dialect shows them: canonical names, compact JSON text."""
    aliases = _ALIASES.get(type)
    if aliases is None:
        return _encode(settings).decode()
    canonical: dict[str, str] = {}
    for key, name in aliases.items():
        canonical.setdefault(name, key)
    shown = {
        key: settings[name] for name, key in canonical.items() if settings.get(name) is not None
    }
    return _encode(shown).decode()


def renamed(error: Invalid, type: str, config: Mapping[str, Any]) -> Invalid:
    """The field by the name that the client used for it."""
    (problem,) = error.problems
    head, _, name = problem.field.partition(".")
    if head != "settings" or not name:
        return place.renamed(error)
    base, bracket, index = name.partition("[")
    keys = [key for key, to in _ALIASES.get(type, {}).items() if to == base]
    used = [key for key in keys if key in config] or keys or [base]
    return Invalid(f"config.{used[0]}{bracket}{index}", problem.message)
