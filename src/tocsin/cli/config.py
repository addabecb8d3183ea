"""`tocsin config`: what the settings are, wherever they came from."""

from typing import Annotated, Any

from cyclopts import Parameter

from tocsin.cli.output import print_json, print_table
from tocsin.cli.settings import NO_FLAGS, Flags, settings_of
from tocsin.config import Settings, shown


def config(
    *,
    json: Annotated[bool, Parameter(negative="", help="print JSON")] = False,
    flags: Flags = NO_FLAGS,
) -> None:
    """Show the effective settings, secrets masked.

    A flag goes before the environment, the environment before tocsin.toml
    (or the file that TOCSIN_CONFIG names), and that before the default.
    A secret may come from a file too: TOCSIN_MASTER_KEY_FILE=/run/secrets/key

    For example:

        tocsin config
        tocsin config --json | jq -r .TOCSIN_DATA_DIR
        TOCSIN_PORT=9000 tocsin config
    """
    values = shown(settings_of(flags))
    if json:
        print_json(values)
        return
    rows: list[dict[str, Any]] = [
        {"id": name, "value": value, "meaning": _meaning(name)} for name, value in values.items()
    ]
    print_table(rows, {"id": "setting", "value": "value", "meaning": "meaning"}, "")


def _meaning(name: str) -> str:
    return Settings.model_fields[name.removeprefix("TOCSIN_").lower()].description or ""
