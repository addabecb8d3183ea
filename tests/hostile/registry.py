"""What a row of the table is. Whoever adds a call adds a `Row`; a row without rules for a field of
its body or query fails."""

from typing import Any, Literal

from msgspec import Struct
from tests.hostile.rules import Cases
from tests.hostile.world import Tenant

Dialect = Literal["native", "applivery", "hookstream"]


class Row(Struct, frozen=True, kw_only=True):
    """One call: a request that is taken, and what each field of its body and query may hold.

    `path` and the strings of `body` may name what a `Tenant` has, in braces. `text_field` is a
    field whose value may be any string without making the body something else. `reset` is the
    body that puts fields which merge back to where they were. An `open` call needs no credential.
    """

    dialect: Dialect
    method: str
    path: str
    success: int
    body: dict[str, Any] | None = None
    fields: dict[str, Cases] = {}
    query: dict[str, Cases] = {}
    text_field: str = ""
    token: str = "admin"
    reset: dict[str, Any] = {}
    open: bool = False
    note: str = ""

    @property
    def name(self) -> str:
        note = f" ({self.note})" if self.note else ""
        return f"{self.dialect} {self.method} {self.path}{note}"


def filled(value: Any, tenant: Tenant) -> Any:
    """The value with the names in its strings filled in."""
    if isinstance(value, str) and "{" in value:
        for name, found in tenant.names.items():
            value = value.replace(f"{{{name}}}", found)
        return value
    if isinstance(value, dict):
        return {name: filled(one, tenant) for name, one in value.items()}
    return [filled(one, tenant) for one in value] if isinstance(value, list) else value
