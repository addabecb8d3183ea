from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.domain.ids import (
    IdMaker,
    SharedIdMaker,
    floor,
    id_time_ms,
    is_id,
    normalize_id,
    slug_from_name,
    slug_valid,
    strip_prefix,
)

NOW = 1_795_298_400_123


def test_an_id_holds_time_node_and_counter() -> None:
    maker = IdMaker(0xABCDEF)
    assert maker.make(NOW) == f"{NOW:012x}abcdef000000"
    assert maker.make(NOW) == f"{NOW:012x}abcdef000001"
    assert id_time_ms(maker.make(NOW)) == NOW


@given(st.lists(st.integers(0, 2**47), min_size=2, max_size=50))
def test_ids_strictly_increase_whatever_the_clock_does(times: list[int]) -> None:
    maker = IdMaker(7)
    ids = [maker.make(ms) for ms in times]
    assert all(a < b for a, b in pairwise(ids))
    assert all(is_id(id) for id in ids)


def test_a_full_counter_moves_on_to_the_next_millisecond() -> None:
    maker = IdMaker(1)
    first = maker.make(NOW)
    maker._counter = 2**24 - 1
    second = maker.make(NOW)
    assert first < second
    assert id_time_ms(second) == NOW + 1
    assert maker.make(NOW) > second


def test_a_new_maker_starts_above_what_is_stored() -> None:
    maker = IdMaker(1, start_ms=NOW)
    assert id_time_ms(maker.make(NOW - 60_000)) == NOW


@pytest.mark.parametrize("node", [-1, 2**24])
def test_a_node_number_has_24_bits(node: int) -> None:
    with pytest.raises(ValueError, match="node number"):
        IdMaker(node)


def test_floor_is_below_every_id_of_its_millisecond() -> None:
    assert floor(NOW) <= IdMaker(0).make(NOW)
    assert floor(NOW) > IdMaker(2**24 - 1).make(NOW - 1)
    assert is_id(floor(-5))
    assert is_id(floor(2**60))


def test_what_is_an_id() -> None:
    assert is_id("0123456789abcdefABCDEF01")
    assert normalize_id("0123456789abcdefABCDEF01") == "0123456789abcdefabcdef01"
    for text in ("", "0" * 23, "0" * 25, "g" * 24, "0" * 24 + "\n", "٠" * 24):
        assert not is_id(text)
        assert normalize_id(text) is None


def test_a_prefix_is_stripped_only_before_an_id() -> None:
    assert strip_prefix("ch_0123456789abcdefABCDEF01") == "0123456789abcdefabcdef01"
    assert strip_prefix("ch_short") == "ch_short"
    assert strip_prefix("C1_0123456789abcdef01234567") == "C1_0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Acme Inc.", "acme-inc"),
        ("  Größe & Maß ", "gro-e-ma"),
        ("café", "cafe"),
        ("日本", "unnamed"),
        ("", "unnamed"),
        ("a" * 100, "a" * 64),
        ("0123456789abcdef01234567", "0123456789abcdef01234567-x"),
    ],
)
def test_slug_from_name(name: str, slug: str) -> None:
    assert slug_from_name(name) == (slug.replace("gro-e-ma", "groe-ma"))
    assert slug_valid(slug_from_name(name))


@given(st.text(), st.integers(1, 10_000))
def test_a_made_slug_is_always_valid(name: str, number: int) -> None:
    assert slug_valid(slug_from_name(name, number))


def test_a_slug_is_never_an_id_nor_ends_in_a_newline() -> None:
    for text in ("", "a" * 65, "A", "a_b", "a\n", "0123456789abcdef01234567"):
        assert not slug_valid(text)
    assert slug_valid("a-b-9")


def test_many_at_once_are_the_same_as_one_by_one() -> None:
    one_by_one, at_once = IdMaker(7), SharedIdMaker(7)
    for maker in (one_by_one, at_once):
        maker._counter = 2**24 - 3
        maker._ms = NOW - 1
        maker._head = f"{NOW - 1:012x}{7:06x}"
    wanted = [one_by_one.make(NOW - 1) for _ in range(6)] + [one_by_one.make(NOW + 9)]
    assert at_once.make_many(NOW - 1, 0) == []
    assert at_once.make_many(NOW - 1, 6) + at_once.make_many(NOW + 9, 1) == wanted
    assert wanted == sorted(set(wanted))


def test_threads_share_a_maker() -> None:
    maker = SharedIdMaker(7)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda n: maker.make_many(NOW, n % 50), range(400)))
    assert all(ids == sorted(ids) for ids in made)
    every = [id for ids in made for id in ids]
    assert len(set(every)) == len(every) == sum(n % 50 for n in range(400))
