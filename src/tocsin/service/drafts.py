"""What a create and a change of a channel may say, as the dialects' decoders hand it over.

The members are typed but not yet checked: `channel_rules.py` does that, and names the field.
`UNSET` is an omitted member: the default on create, the stored value on a change.
"""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType


class ChannelDraft(Struct, kw_only=True):
    """Everything a create takes. `retry` is `{"schedule": […]}`, `breaker` any of its members."""

    name: str
    type: str
    settings: dict[str, Any]
    project: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    event_types: list[str] | UnsetType | None = UNSET
    filter: list[dict[str, Any]] | UnsetType | None = UNSET
    enabled: bool | UnsetType | None = UNSET
    headers: dict[str, str] | UnsetType | None = UNSET
    format: str | UnsetType | None = UNSET
    retry: dict[str, Any] | UnsetType | None = UNSET
    timeout_seconds: float | UnsetType | None = UNSET
    rate_limit: dict[str, Any] | UnsetType | None = UNSET
    max_in_flight: int | UnsetType | None = UNSET
    ordered: bool | UnsetType | None = UNSET
    breaker: dict[str, Any] | UnsetType | None = UNSET


class ChannelPatch(Struct, kw_only=True):
    """What a change may say. `settings`, `headers` and `breaker` merge by member.

    A header or setting of value None is removed; a masked value keeps the stored one.
    `backlog` "cancel" goes with `enabled` true and drops what waits.
    """

    name: str | UnsetType = UNSET
    settings: dict[str, Any] | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    event_types: list[str] | UnsetType | None = UNSET
    filter: list[dict[str, Any]] | UnsetType | None = UNSET
    enabled: bool | UnsetType | None = UNSET
    headers: dict[str, str | None] | UnsetType | None = UNSET
    format: str | UnsetType | None = UNSET
    retry: dict[str, Any] | UnsetType | None = UNSET
    timeout_seconds: float | UnsetType | None = UNSET
    rate_limit: dict[str, Any] | UnsetType | None = UNSET
    max_in_flight: int | UnsetType | None = UNSET
    ordered: bool | UnsetType | None = UNSET
    breaker: dict[str, Any] | UnsetType | None = UNSET
    backlog: Literal["cancel"] | UnsetType = UNSET
