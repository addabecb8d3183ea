"""The query string of a call, read strictly: each getter names the parameter it refuses."""

import re
from urllib.parse import parse_qsl

from tocsin.domain.errors import Invalid
from tocsin.domain.text import parse_time

PARAMETERS_MAX = 100

_INTEGER = re.compile(r"[0-9]{1,9}", re.ASCII)


class Query:
    """Parameters by name; of several with one name the last counts, unknown ones are ignored."""

    def __init__(self, raw: bytes) -> None:
        try:
            pairs = parse_qsl(
                raw.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=PARAMETERS_MAX,
            )
        except ValueError:  # UnicodeDecodeError, too many fields
            raise Invalid("", "the query string can't be read") from None
        self._values = dict(pairs)

    def text(self, name: str) -> str | None:
        """The parameter as it is; None when absent or empty."""
        value = self._values.get(name)
        if value and "\0" in value:
            raise Invalid(name, "must not contain U+0000")
        return value or None

    def integer(self, name: str, *, default: int, least: int, most: int) -> int:
        """A decimal number within bounds."""
        value = self._values.get(name)
        if value is None:
            return default
        if not _INTEGER.fullmatch(value) or not least <= int(value) <= most:
            raise Invalid(name, f"must be an integer from {least} to {most}")
        return int(value)

    def time(self, name: str) -> int | None:
        """A moment in milliseconds."""
        value = self.text(name)
        # A plus sign of an offset reads as a space where the client forgot to escape it.
        return None if value is None else parse_time(value.replace(" ", "+"), name)

    def one_of(self, name: str, choices: tuple[str, ...]) -> str | None:
        """One of a closed set of words; an empty one is none of them."""
        value = self._values.get(name)
        if value is not None and value not in choices:
            raise Invalid(name, f"must be one of {', '.join(choices)}")
        return value
