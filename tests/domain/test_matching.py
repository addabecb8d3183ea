from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.domain.errors import Invalid
from tocsin.domain.matching import (
    OPERATORS,
    check_filter,
    check_patterns,
    compile_filter,
    compile_patterns,
    pattern_valid,
    type_reserved,
    type_valid,
)
from tocsin.domain.model import Condition

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def holds(data: Any, field: str, op: str, value: Any) -> bool:
    return compile_filter(check_filter([Condition(field, op, value)]))(data)


@pytest.mark.parametrize("text", ["build", "build.created", "a.b-c.D_1", "a" * 128, "_", "1.2"])
def test_types(text: str) -> None:
    assert type_valid(text)


@pytest.mark.parametrize(
    "text",
    ["", ".", "a.", ".a", "a..b", "a-b", "a.b\n", "\na", "a b", "ä", "a" * 129, "a.*", "*", "a\0"],
)
def test_no_types(text: str) -> None:
    assert not type_valid(text)


def test_patterns() -> None:
    for text in ("*", "build.*", "build.created", "tocsin.*", "tocsin.channel.failing", "a.b.*"):
        assert pattern_valid(text)
    for text in ("", "**", "*.created", "build*", ".*", "build.*\n", "*.*", "a.*.b", "*\n"):
        assert not pattern_valid(text)
    assert pattern_valid("a" * 126 + ".*")
    assert not pattern_valid("a" * 127 + ".*")


def test_a_bad_pattern_is_named() -> None:
    with pytest.raises(Invalid, match=r"event_types\[1\]"):
        check_patterns(["*", "build*"])
    with pytest.raises(Invalid, match="at most 100"):
        check_patterns(["a"] * 101)


@pytest.mark.parametrize(
    ("patterns", "type", "expected"),
    [
        (["*"], "build.created", True),
        (["*"], "tocsin", True),
        (["*"], "tocsin.channel.failing", False),
        (["*", "tocsin.*"], "tocsin.channel.failing", True),
        (["*", "tocsin.test"], "tocsin.test", True),
        (["tocsin.*"], "tocsin.channel.failing", True),
        (["tocsin.*"], "build.created", False),
        (["build.*"], "build.created", True),
        (["build.*"], "build.created.twice", True),
        (["build.*"], "build", False),
        (["build.*"], "builder.created", False),
        (["build"], "build", True),
        (["build"], "build.created", False),
        (["a", "b.*"], "b.c", True),
        ([], "build", False),
    ],
)
def test_matching(patterns: list[str], type: str, expected: bool) -> None:
    assert compile_patterns(patterns)(type) is expected


def test_reserved_types() -> None:
    assert type_reserved("tocsin.test")
    assert type_reserved("alert.triggered")
    assert not type_reserved("alerts.triggered")
    assert not type_reserved("tocsin")


DATA = {
    "name": "main build",
    "n": 1,
    "half": 0.5,
    "yes": True,
    "null": None,
    "list": [1, "two", True, {"x": 1}],
    "deep": {"a": {"b": [10, 20]}, "0": "key"},
}


@pytest.mark.parametrize(
    ("field", "op", "value", "expected"),
    [
        ("name", "eq", "main build", True),
        ("n", "eq", 1, True),
        ("n", "eq", 1.0, True),
        ("n", "eq", True, False),
        ("n", "eq", "1", False),
        ("yes", "eq", True, True),
        ("yes", "eq", 1, False),
        ("null", "eq", None, True),
        ("missing", "eq", None, False),
        ("list", "eq", [1, "two", True, {"x": 1}], True),
        ("list", "eq", [True, "two", True, {"x": 1}], False),
        ("list", "eq", [1, "two", True, {"x": True}], False),
        ("deep.a", "eq", {"b": [10, 20]}, True),
        ("deep.a.b.1", "eq", 20, True),
        ("deep.a.b.2", "exists", True, False),
        ("deep.a.b.-1", "exists", True, False),
        ("deep.0", "eq", "key", True),
        ("n", "neq", 2, True),
        ("n", "neq", 1, False),
        ("n", "neq", True, True),
        ("missing", "neq", 1, True),
        ("n.deeper", "neq", 1, True),
        ("missing", "exists", False, True),
        ("missing", "exists", True, False),
        ("null", "exists", True, True),
        ("name", "contains", "in b", True),
        ("name", "contains", 1, False),
        ("list", "contains", "two", True),
        ("list", "contains", True, True),
        ("deep.a.b", "contains", True, False),
        ("list", "contains", {"x": 1.0}, True),
        ("deep", "contains", "a", False),
        ("missing", "contains", "", False),
        ("n", "gt", 0, True),
        ("n", "gt", 0.5, True),
        ("n", "gt", "0", False),
        ("n", "gte", 1, True),
        ("n", "lt", 1, False),
        ("half", "lte", 0.5, True),
        ("yes", "gt", 0, False),
        ("n", "gt", False, False),
        ("name", "gt", "a", True),
        ("null", "lte", None, False),
        ("list", "gt", [], False),
        ("missing", "lt", 5, False),
        ("n", "in", [2, 1.0], True),
        ("n", "in", [True], False),
        ("n", "in", [], False),
        ("missing", "in", [None], False),
        ("null", "in", [None], True),
    ],
)
def test_filters_compare_by_json_type(field: str, op: str, value: Any, expected: bool) -> None:
    assert holds(DATA, field, op, value) is expected


def test_all_conditions_must_hold_and_none_always_do() -> None:
    both = (Condition("n", "eq", 1), Condition("yes", "eq", True))
    assert compile_filter(both)(DATA)
    assert not compile_filter((*both, Condition("n", "eq", 2)))(DATA)
    assert compile_filter(())(None)


@given(JSON, st.sampled_from(OPERATORS), JSON, st.text(min_size=1, max_size=6))
def test_a_checked_filter_never_raises(data: Any, op: str, value: Any, field: str) -> None:
    try:
        checked = check_filter([{"field": field, "op": op, "value": value}])
    except Invalid:
        return
    assert compile_filter(checked)(data) in (True, False)


@given(JSON, JSON)
def test_neq_is_the_opposite_of_eq(found: Any, value: Any) -> None:
    data = {"f": found}
    assert holds(data, "f", "eq", value) is not holds(data, "f", "neq", value)
    assert holds(data, "f", "eq", found)


@pytest.mark.parametrize(
    ("condition", "field"),
    [
        ({"field": "a", "op": "like", "value": 1}, "filter[0].op"),
        ({"field": "a", "op": 1, "value": 1}, "filter[0].op"),
        ({"field": "a", "op": "eq"}, "filter[0].value"),
        ({"op": "eq", "value": 1}, "filter[0].field"),
        ({"field": "", "op": "eq", "value": 1}, "filter[0].field"),
        ({"field": "a..b", "op": "eq", "value": 1}, "filter[0].field"),
        ({"field": "a\0", "op": "eq", "value": 1}, "filter[0].field"),
        ({"field": "a" + ".a" * 10, "op": "eq", "value": 1}, "filter[0].field"),
        ({"field": "a", "op": "exists", "value": 1}, "filter[0].value"),
        ({"field": "a", "op": "in", "value": 1}, "filter[0].value"),
        ({"field": "a", "op": "in", "value": [1] * 101}, "filter[0].value"),
        ({"field": "a", "op": "eq", "value": 1, "more": 1}, "filter[0].more"),
        (7, "filter[0]"),
    ],
)
def test_a_bad_condition_is_named(condition: Any, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_filter([condition])
    assert caught.value.problems[0].field == field


def test_too_many_conditions() -> None:
    with pytest.raises(Invalid, match="at most 20"):
        check_filter([Condition("a", "eq", 1)] * 21)
