from typing import Any

import pytest

from tocsin.channels import check_headers, mask_headers, merge_headers
from tocsin.domain.errors import Invalid
from tocsin.domain.text import MASK

STORED = {"X-Api-Key": "abc", "X-Team": "red"}


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "content-length",
        "Content-Type",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "Proxy-Authorization",
        "Accept-Encoding",
        "User-Agent",
        "Webhook-Id",
        "webhook-anything",
        "Tocsin-Delivery",
        "X-hookstream-Signature",
        "X-Applivery-Token",
        "",
        "a b",
        "a:",
        "ä",
        "a\0",
        "a\n",
        "x" * 129,
    ],
)
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(Invalid, match=r"headers\."):
        check_headers({name: "value"})


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\rb", "a\0b", "", " ", "x" * 4097, 7, None])
def test_values_that_are_refused(value: Any) -> None:
    with pytest.raises(Invalid) as caught:
        check_headers({"X-Own": value})
    assert caught.value.problems[0].field == "headers.X-Own"


def test_what_passes() -> None:
    assert check_headers({"Authorization": " Bearer a\tb ", "X-A": "ü"}) == {
        "Authorization": "Bearer a\tb",
        "X-A": "ü",
    }
    assert len(check_headers({f"x-{n}": "v" for n in range(20)})) == 20


def test_too_many_or_the_same_twice() -> None:
    with pytest.raises(Invalid, match="at most 20"):
        check_headers({f"x-{n}": "v" for n in range(21)})
    for twins in ({"X-A": "1", "x-a": "2"}, {"X-A": MASK, "x-a": "2"}):
        with pytest.raises(Invalid, match="twice"):
            merge_headers(twins, {"X-A": "0"})


def test_merging_by_name() -> None:
    assert mask_headers(STORED) == {"X-Api-Key": MASK, "X-Team": MASK}
    assert merge_headers({}, STORED) == STORED
    assert merge_headers(None, STORED) == {}
    assert merge_headers(mask_headers(STORED), STORED) == STORED
    assert merge_headers({"x-api-key": "new"}, STORED) == {"x-api-key": "new", "X-Team": "red"}
    assert merge_headers({"x-team": None, "X-New": "1"}, STORED) == {
        "X-Api-Key": "abc",
        "X-New": "1",
    }


@pytest.mark.parametrize(
    ("new", "stored"),
    [({"X-A": MASK}, {}), ({"X-Team": f"x{MASK}"}, STORED), ({"X-Other": MASK}, STORED)],
)
def test_the_mask_is_no_value(new: dict[str, str], stored: dict[str, str]) -> None:
    with pytest.raises(Invalid, match="masked"):
        merge_headers(new, stored)


def test_a_move_to_another_origin_forgets_what_is_not_sent_again() -> None:
    assert merge_headers({}, STORED, moved=True) == {}
    assert merge_headers({"X-Team": "blue"}, STORED, moved=True) == {"X-Team": "blue"}
    with pytest.raises(Invalid, match="another origin"):
        merge_headers({"X-Team": MASK}, STORED, moved=True)
