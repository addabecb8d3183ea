"""Settings for commands: the flags made from them, and reading them with errors for people."""

import os
from collections.abc import Mapping
from dataclasses import field, make_dataclass
from tomllib import TOMLDecodeError
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from tocsin.cli.errors import Misused
from tocsin.config import SECRET_SETTINGS, ConfigError, Settings, load

FLAGS = Group(
    "Settings",
    help="Each is also an environment variable, TOCSIN_ and the name, or a key of tocsin.toml.",
    sort_key=10,
)


def _flag(name: str) -> tuple[str, Any, Any]:
    known = Settings.model_fields[name]
    help = known.description or ""
    if name in SECRET_SETTINGS:
        help += f" (others can see flags: better TOCSIN_{name.upper()} or …_FILE)"
    elif known.default not in ("", (), None):
        help += f" [default: {known.default}]"
    kind: Any = bool | None if known.annotation is bool else str | None
    parameter = Parameter(name=f"--{name.replace('_', '-')}", help=help.strip(), group=FLAGS)
    return name, Annotated[kind, parameter], field(default=None, repr=name not in SECRET_SETTINGS)


if TYPE_CHECKING:

    class Flags:
        """One optional flag a setting, as text: the settings themselves check it."""

else:
    Flags = make_dataclass(
        "Flags",
        [_flag(name) for name in Settings.model_fields],
        frozen=True,
        # Without it cyclopts takes the class for a built-in one.
        namespace={"__module__": __name__},
    )
    Parameter(name="*")(Flags)

NO_FLAGS = Flags()


def settings_of(flags: object | None = None) -> Settings:
    """The effective settings; a wrong one ends the command."""
    given = {
        name: value
        for name in Settings.model_fields
        if (value := getattr(flags, name, None)) is not None
    }
    return load_settings(given)


def load_settings(given: Mapping[str, Any] | None = None) -> Settings:
    """The effective settings under these flags."""
    try:
        return load(given)
    except ConfigError as error:
        raise Misused(str(error), "`tocsin config` shows every setting and its value") from None
    except TOMLDecodeError as error:
        raise Misused(f"{_file()}: {error}", "docs/configuration.md shows how it looks") from None
    except OSError as error:
        raise Misused(f"can't read {_file()}: {error.strerror}") from None


def _file() -> str:
    return os.environ.get("TOCSIN_CONFIG", "tocsin.toml")
