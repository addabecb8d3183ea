"""Output in itself: no value of the API can steer a terminal or be read as markup."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tocsin.cli.output import as_json, cell, shown
from tocsin.domain.text import visible

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_json_reads_back_and_is_safe(value: object) -> None:
    text = as_json(value, indent=None)
    assert visible(text) == text
    assert json.loads(text) == value


@given(values)
def test_cells_are_safe(value: object) -> None:
    text = shown(value)
    assert visible(text) == text
    assert text


@pytest.mark.parametrize("text", ["[red]x[/red]", ":smile:", "[/]", "[link=http://x]y[/link]"])
def test_text_is_no_markup(text: str) -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(cell(text))
    assert out.getvalue().strip() == text


def test_empty_values_are_a_dash_and_others_are_not() -> None:
    nothing: list[object] = [None, "", [], {}]
    assert [shown(one) for one in nothing] == ["–"] * 4
    something: list[object] = [0, False, ["a", "b"], {"a": 1}]
    assert [shown(one) for one in something] == ["0", "no", "a, b", '{"a": 1}']
