"""What a create and a change of a channel may say, as the dialects' decoders hand it over.

The members are typed but not yet checked: `channel_rules.py` does that, and names the field.
`UNSET` is an omitted member: the default on create, the stored value on a change.
"""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType


class ChannelDraft(Struct, kw_only=True):
    """Everything a create takes. `retry` is `{"schedule": [...]}`, `breaker` has any of its members."""

    name: str
    type: str
    settings: dict[str, Any]
    project: str | None | UnsetType = UNSET
    description: str | None | UnsetType = UNSET
    event_types: list[str] | None | UnsetType = UNSET
    filter: list[dict[str, Any]] | None | UnsetType = UNSET
    enabled: bool | None | UnsetType = UNSET
    headers: dict[str, str] | None | UnsetType = UNSET
    format: str | None | UnsetType = UNSET
    retry: dict[str, Any] | None | UnsetType = UNSET
    timeout_seconds: float | None | UnsetType = UNSET
    rate_limit: dict[str, Any] | None | UnsetType = UNSET
    max_in_flight: int | None | UnsetType = UNSET
    ordered: bool | None | UnsetType = UNSET
    breaker: dict[str, Any] | None | UnsetType = UNSET


class ChannelPatch(Struct, kw_only=True):
    """What a change may say. `settings`, `headers` and `breaker` merge by member.

    A header or setting of value None is removed; a masked value keeps the stored one.
    `backlog` "cancel" goes with `enabled` true and drops what waits.
    """

    name: str | UnsetType = UNSET
    settings: dict[str, Any] | None | UnsetType = UNSET
    description: str | None | UnsetType = UNSET
    event_types: list[str] | None | UnsetType = UNSET
    filter: list[dict[str, Any]] | None | UnsetType = UNSET
    enabled: bool | None | UnsetType = UNSET
    headers: dict[str, str | None] | None | UnsetType = UNSET
    format: str | None | UnsetType = UNSET
    retry: dict[str, Any] | None | UnsetType = UNSET
    timeout_seconds: float | None | UnsetType = UNSET
    rate_limit: dict[str, Any] | None | UnsetType = UNSET
    max_in_flight: int | None | UnsetType = UNSET
    ordered: bool | None | UnsetType = UNSET
    breaker: dict[str, Any] | None | UnsetType = UNSET
    backlog: Literal["cancel"] | UnsetType = UNSET
