import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.domain.model import Role
from tocsin.domain.permissions import (
    ALL,
    OPERATIONS,
    ROLES,
    Caller,
    allows,
    grant_valid,
    grants_of,
    within,
)

SEGMENT = st.sampled_from(["a", "b", "*", "list"])
PATTERN = st.lists(SEGMENT, min_size=1, max_size=5).map(".".join)
PATTERNS = st.lists(PATTERN, max_size=4).map(tuple)
NAME = st.lists(st.sampled_from(["a", "b", "c", "list"]), min_size=1, max_size=6).map(".".join)


@pytest.mark.parametrize(
    ("grant", "operation", "expected"),
    [
        ("*", "channel.create", True),
        ("channel.*", "channel.create", True),
        ("channel.*", "channel", False),
        ("channel.*", "channels.create", False),
        ("*.list", "channel.list", True),
        ("*.list", "mad.application.notification.list", True),
        ("*.list", "list", False),
        ("*.get", "channel.secret", False),
        ("mad.*.list", "mad.application.notification.list", True),
        ("mad.*.list", "mad.list", False),
        ("*.notification.*", "mad.application.notification.get", True),
        ("channel.create", "channel.create", True),
        ("channel.create", "channel.create.more", False),
    ],
)
def test_a_star_takes_whole_segments(grant: str, operation: str, expected: bool) -> None:
    assert allows((grant,), operation) is expected


def test_what_a_grant_looks_like() -> None:
    for text in ("*", "channel.*", "*.list", "a.*.b", "alert_rule.get"):
        assert grant_valid(text)
    for text in (
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "a*",
        "a.*\n",
        "a b",
        "**",
        "x" * 129,
        "a" + ".a" * 10,
    ):
        assert not grant_valid(text)
    assert not grant_valid("a" + ".a" * 10)


def test_what_the_roles_may_do() -> None:
    viewer, developer = ROLES[Role.VIEWER], ROLES[Role.DEVELOPER]
    assert all(allows(ROLES[Role.ADMIN], operation) for operation in OPERATIONS)
    assert {o for o in OPERATIONS if allows(viewer, o)} == {
        o for o in OPERATIONS if o.endswith((".list", ".get"))
    }
    refused = {o for o in OPERATIONS if not allows(developer, o)}
    assert refused == {
        *(f"organization.{verb}" for verb in ("create", "list", "get", "update", "delete")),
        *(f"project.{verb}" for verb in ("create", "update", "delete")),
        *(f"key.{verb}" for verb in ("create", "list", "delete")),
        *(f"member.{verb}" for verb in ("create", "list", "update", "delete")),
        *(f"user.{verb}" for verb in ("create", "list", "reset", "delete")),
        *(f"backup.{verb}" for verb in ("create", "get")),
        *(f"master_key.{verb}" for verb in ("rotate", "get")),
        "audit.list",
    }


def test_operations_are_listed_once() -> None:
    assert len(set(OPERATIONS)) == len(OPERATIONS)
    assert all(grant_valid(operation) for operation in OPERATIONS)


def test_only_a_star_grants_a_star() -> None:
    assert within(("*",), ALL)
    assert not within(("*",), OPERATIONS)
    assert not within(("*",), ("*.*",))
    assert not within(("*.*",), OPERATIONS)
    assert not within(("channel.*",), tuple(o for o in OPERATIONS if o.startswith("channel.")))
    assert within(("channel.*",), ("channel.*",))
    assert within(("*.list",), ("*",))
    assert not within(("*.list",), ("channel.*",))
    assert within((), ())


@given(PATTERNS, PATTERNS, NAME)
def test_what_is_within_never_allows_more(
    child: tuple[str, ...], parent: tuple[str, ...], name: str
) -> None:
    if within(child, parent) and allows(child, name):
        assert allows(parent, name)


@given(PATTERNS)
def test_everything_is_within_itself(grants: tuple[str, ...]) -> None:
    assert within(grants, grants)


def test_role_and_permissions_are_united() -> None:
    assert grants_of(None, ()) == ROLES[Role.DEVELOPER]
    assert grants_of(Role.VIEWER, ("key.create", "*.get")) == ("*.list", "*.get", "key.create")
    assert grants_of(None, ("event.publish",)) == ("event.publish",)


def test_a_caller_may_what_its_grants_cover() -> None:
    caller = Caller(kind="key", grants=("event.*",))
    assert caller.may("event.publish")
    assert not caller.may("channel.list")
