"""Which channel wants which event: event types, patterns over them, and filters over the data.

Filters compare JSON values by type: a boolean is not a number, `1` equals `1.0`, nothing is
converted. A field that is missing fails every operator but `neq` and `exists: false`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tocsin.domain.errors import Invalid
from tocsin.domain.model import Condition

TYPE_CHARS_MAX = 128
PATTERNS_MAX = 100
CONDITIONS_MAX = 20
IN_VALUES_MAX = 100
PATH_SEGMENTS_MAX = 10
PATH_CHARS_MAX = 512

OPERATORS = ("eq", "neq", "contains", "gt", "gte", "lt", "lte", "exists", "in")

_TYPE = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_-]+)*", re.ASCII)
_INDEX = re.compile(r"[0-9]{1,9}", re.ASCII)
_OWN = "tocsin."
_RESERVED = (_OWN, "alert.")


class _Missing:
    """Stands for a field that the data does not have; JSON null is a value."""


_MISSING: Final = _Missing()

Predicate = Callable[[Any], bool]


def type_valid(text: str) -> bool:
    """Whether the text is an event type: dotted ASCII segments, at most 128 characters."""
    return len(text) <= TYPE_CHARS_MAX and _TYPE.fullmatch(text) is not None


def type_reserved(text: str) -> bool:
    """Whether only Tocsin itself may make events of this type."""
    return text.startswith(_RESERVED)


def pattern_valid(text: str) -> bool:
    """Whether the text is a pattern: an exact type, `build.*`, or `*`."""
    if text == "*":
        return True
    return len(text) <= TYPE_CHARS_MAX and type_valid(text.removesuffix(".*"))


def check_patterns(patterns: Sequence[str], field: str = "event_types") -> None:
    """Raise Invalid naming the first pattern that is none, or the field when there are too many."""
    if len(patterns) > PATTERNS_MAX:
        raise Invalid(field, f"at most {PATTERNS_MAX} patterns")
    for index, pattern in enumerate(patterns):
        if not pattern_valid(pattern):
            raise Invalid(
                f"{field}[{index}]",
                "must be an event type like build.created, a prefix like build.*, or *",
            )


def compile_patterns(patterns: Sequence[str]) -> Callable[[str], bool]:
    """A fast test of event types against valid patterns.

    `build.*` needs one or more further segments; `*` is everything but `tocsin.*`, which must be
    asked for by name.
    """
    exact = frozenset(p for p in patterns if not p.endswith("*"))
    prefixes = tuple(p[:-1] for p in patterns if p.endswith(".*"))
    everything = "*" in patterns

    def all_but_own(type: str) -> bool:
        return not type.startswith(_OWN) or type in exact or type.startswith(prefixes)

    def listed(type: str) -> bool:
        return type in exact or type.startswith(prefixes)

    if everything:
        return all_but_own
    return listed if prefixes else exact.__contains__


def check_filter(
    conditions: Sequence[Condition | Mapping[str, Any]], field: str = "filter"
) -> tuple[Condition, ...]:
    """The conditions as values, from structs or decoded JSON; raises Invalid naming what is wrong,
    such as `filter[0].op`."""
    if len(conditions) > CONDITIONS_MAX:
        raise Invalid(field, f"at most {CONDITIONS_MAX} conditions")
    return tuple(
        _check_condition(condition, f"{field}[{index}]")
        for index, condition in enumerate(conditions)
    )


def _check_condition(raw: Condition | Mapping[str, Any], where: str) -> Condition:
    condition = raw if isinstance(raw, Condition) else _from_json(raw, where)
    path, op, value = condition.field, condition.op, condition.value
    segments = path.split(".")
    if not all(segments):
        raise Invalid(f"{where}.field", "must be a dotted path without empty segments")
    if len(segments) > PATH_SEGMENTS_MAX or len(path) > PATH_CHARS_MAX:
        raise Invalid(f"{where}.field", f"at most {PATH_SEGMENTS_MAX} segments")
    if "\0" in path:
        raise Invalid(f"{where}.field", "must not contain U+0000")
    if op not in OPERATORS:
        raise Invalid(f"{where}.op", f"must be one of {', '.join(OPERATORS)}")
    if op == "exists" and not isinstance(value, bool):
        raise Invalid(f"{where}.value", "must be true or false with exists")
    if op == "in" and not (isinstance(value, list | tuple) and len(value) <= IN_VALUES_MAX):
        raise Invalid(f"{where}.value", f"must be an array of at most {IN_VALUES_MAX} with in")
    return condition


def _from_json(raw: object, where: str) -> Condition:
    if not isinstance(raw, Mapping):
        raise Invalid(where, "must be an object with field, op and value")
    for name in raw:
        if name not in ("field", "op", "value"):
            raise Invalid(f"{where}.{name}", "is not known")
    for name in ("field", "op"):
        if not isinstance(raw.get(name), str):
            raise Invalid(f"{where}.{name}", "must be a string")
    if "value" not in raw:
        raise Invalid(f"{where}.value", "is required")
    return Condition(raw["field"], raw["op"], raw["value"])


def compile_filter(conditions: Sequence[Condition]) -> Predicate:
    """A test of decoded JSON data: all conditions must hold. Takes checked conditions; never
    raises."""
    tests = tuple(_compile_condition(condition) for condition in conditions)
    if not tests:
        return lambda data: True
    if len(tests) == 1:
        return tests[0]
    return lambda data: all(test(data) for test in tests)


def _compile_condition(condition: Condition) -> Predicate:
    segments = tuple(condition.field.split("."))
    holds = _comparison(condition.op, condition.value)
    return lambda data: holds(_find(data, segments))


def _find(data: Any, segments: tuple[str, ...]) -> Any:
    for segment in segments:
        if isinstance(data, dict):
            data = data.get(segment, _MISSING)
        elif isinstance(data, list) and _INDEX.fullmatch(segment):
            index = int(segment)
            data = data[index] if index < len(data) else _MISSING
        else:
            return _MISSING
    return data


def _comparison(op: str, value: Any) -> Predicate:
    match op:
        case "eq":
            return lambda found: _same(found, value)
        case "neq":
            return lambda found: not _same(found, value)
        case "contains":
            return lambda found: _contains(found, value)
        case "exists":
            return lambda found: (found is not _MISSING) is value
        case "in":
            return lambda found: any(_same(found, one) for one in value)
        case "gt":
            return lambda found: _ordered(found, value) and found > value
        case "gte":
            return lambda found: _ordered(found, value) and found >= value
        case "lt":
            return lambda found: _ordered(found, value) and found < value
        case "lte":
            return lambda found: _ordered(found, value) and found <= value
    raise ValueError(f"unchecked operator {op!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _ordered(found: Any, value: Any) -> bool:
    if isinstance(found, str):
        return isinstance(value, str)
    return _is_number(found) and _is_number(value)


def _contains(found: Any, value: Any) -> bool:
    if isinstance(found, str):
        return isinstance(value, str) and value in found
    return isinstance(found, list) and any(_same(one, value) for one in found)


def _same(a: Any, b: Any) -> bool:
    """Equality of JSON values; Python's own would say that true is 1, at any depth."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list | tuple):
        return (
            isinstance(b, list | tuple)
            and len(a) == len(b)
            and all(_same(x, y) for x, y in zip(a, b, strict=True))
        )
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    return bool(a == b)
