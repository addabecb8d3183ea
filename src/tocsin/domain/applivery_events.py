"""The events that Applivery knows: flag of a channel, event type, and `action` in a body.

A channel of an application knows the first four flags, one of an organization all eighteen.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from tocsin.domain.matching import compile_patterns


class Flag(Struct, frozen=True):
    """One switch of an Applivery notification: its event types, each with its action."""

    name: str
    actions: dict[str, str]
    application: bool = False


_SYSTEMS = {"emm": "android", "adm": "apple", "win": "windows", "aos": "aosp"}

FLAGS = (
    Flag("buildCreated", {"build.created": "build_created"}, application=True),
    Flag("buildProcessed", {"build.processed": "build_processed"}, application=True),
    Flag(
        "feedbackCreated",
        {"feedback.created": "feedback_created", "bug.created": "bug_created"},
        application=True,
    ),
    Flag(
        "certificateWillExpire",
        {"certificate.will_expire": "certificate_will_expire"},
        application=True,
    ),
    Flag("applePushRenovation", {"apple_push.renovation": "apple_push_certification_renovation"}),
    *(
        Flag(
            f"{flag}EnrollmentCreated",
            {f"{os}.enrollment.created": f"{os}_enrollment-token_created"},
        )
        for flag, os in _SYSTEMS.items()
    ),
    *(
        Flag(f"{flag}DeviceCreated", {f"{os}.device.created": f"{os}_device_enrolled"})
        for flag, os in _SYSTEMS.items()
    ),
    *(
        Flag(
            f"{flag}DeviceChangedMdmUser",
            {f"{os}.device.changed_mdm_user": f"{os}_device_added_mdm_user"},
        )
        for flag, os in _SYSTEMS.items()
    ),
    Flag("inventoryItemRegistered", {"inventory.item_registered": "inventory_item_registered"}),
)

ACTIONS = {type: action for flag in FLAGS for type, action in flag.actions.items()}
"""The action of each of the nineteen event types."""


def action_of(event_type: str) -> str:
    """What a webhook body calls the event; a type that Applivery does not know gets `_` for `.`."""
    return ACTIONS.get(event_type) or event_type.replace(".", "_")


def flags_of(*, organization_level: bool) -> tuple[Flag, ...]:
    """The flags that a channel of this level has, in their documented order."""
    return FLAGS if organization_level else tuple(flag for flag in FLAGS if flag.application)


def shown_flags(patterns: Sequence[str], *, organization_level: bool) -> dict[str, bool]:
    """Every flag of the level: true when the patterns match at least one of its types."""
    match = compile_patterns(patterns)
    return {
        flag.name: any(map(match, flag.actions))
        for flag in flags_of(organization_level=organization_level)
    }


def patterns_with_flags(
    patterns: Sequence[str], given: Mapping[str, bool], *, organization_level: bool
) -> tuple[str, ...]:
    """The patterns after the given flags are laid over today's.

    Flags become explicit types; patterns that match none of the nineteen types stay. Flags the
    level does not have are passed over; when nothing is given, nothing changes.
    """
    today = shown_flags(patterns, organization_level=organization_level)
    laid = {name: value for name, value in given.items() if name in today}
    if not laid:
        return tuple(patterns)
    flags = today | laid
    types = [type for flag in FLAGS if flags.get(flag.name) for type in flag.actions]
    others = [p for p in patterns if not any(map(compile_patterns((p,)), ACTIONS))]
    return (*types, *others)
