"""What a field may hold, as cases at each boundary and one over: what rows are made of."""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import Struct

ASTRAL = "😀"  # one character, two UTF-16 units, four bytes


class Absent:
    """Stands for a field that is left out."""


class Raw(bytes):
    """JSON text that goes into the body as it is."""


ABSENT: Final = Absent()


class Case(Struct, frozen=True):
    """One value of a field. `at` is where a refusal must point, if not to the field itself."""

    name: str
    value: Any
    ok: bool
    at: str = ""


Cases = tuple[Case, ...]

_JSON: dict[str, Any] = {
    "string": "x",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "array": [],
    "object": {},
}


def good(**values: Any) -> Cases:
    """Values that are taken."""
    return tuple(Case(name, value, True) for name, value in values.items())


def bad(at: str = "", /, **values: Any) -> Cases:
    """Values that are refused."""
    return tuple(Case(name, value, False, at) for name, value in values.items())


def listed(values: Iterable[Any], *, ok: bool, at: str = "") -> Cases:
    """One case per value, named by it."""
    return tuple(Case(repr(value)[:80], value, ok, at) for value in values)


def null(*, ok: bool) -> Cases:
    return (Case("null", None, ok),)


def absent(*, ok: bool) -> Cases:
    return (Case("absent", ABSENT, ok),)


def types(*allowed: str) -> Cases:
    """A value of every other JSON type."""
    return tuple(
        Case(f"of type {name}", value, False)
        for name, value in _JSON.items()
        if name not in allowed and not (name == "integer" and "number" in allowed)
    )


def optional(*, null_ok: bool = True) -> Cases:
    return absent(ok=True) + null(ok=null_ok)


REQUIRED = absent(ok=False) + null(ok=False)
ANYTHING = good(text="x", number=1, object={}, array=[None], null=None)


def text(least: int, most: int, *, controls: bool = False) -> Cases:
    """A string of `least` to `most` characters; `controls` says whether U+0000 may be in it."""
    inside = "a{}b"
    cases = types("string") + good(longest="x" * most, longest_astral=ASTRAL * most)
    cases += bad(too_long="x" * (most + 1), too_long_astral=ASTRAL * (most + 1))
    cases += good(shortest="x" * least) if least else good(empty="")
    cases += bad(empty="") if least else ()
    for code in (0x00, 0x07, 0x1B, 0x7F, 0x85):
        cases += (Case(f"U+{code:04X}", inside.format(chr(code)), controls),)
    return cases


def whole(least: int, most: int) -> Cases:
    """A whole number; what has a fraction or an exponent is none."""
    return (
        types("integer", "number")
        + good(least=least, most=most)
        + bad(below=least - 1, above=most + 1, negative=-1)
        + bad(fraction=least + 0.5, decimal=Raw(b"%d.0" % least), huge=10**30)
        + bad(boolean=True, string=str(least))
    )


def words(*choices: str) -> Cases:
    """One of a closed set of words."""
    cases = types("string") + good(**{one: one for one in choices})
    wrong = {f"{one} in capitals": one.upper() for one in choices if one != one.upper()}
    return cases + bad(empty="", line_end=choices[0] + "\n", **wrong, **{"another word": "other"})


def flag() -> Cases:
    return types("boolean") + good(true=True, false=False) + bad(zero=0, one=1, word="true")


SLUGS_REFUSED = bad(
    capitals="Slug",
    underscore="a_b",
    dot="a.b",
    space="a b",
    line_end="slug\n",
    nul="a\0b",
    too_long="s" * 65,
    like_an_id="0123456789abcdef01234567",
    empty="",
    accent="é",
    astral=ASTRAL,
)


def slug(letter: str) -> Cases:
    """Slugs of one letter, so that two calls that make something don't take the same."""
    taken = good(shortest=letter, longest=letter * 64, one_short_of_an_id=letter * 23)
    return types("string") + taken + SLUGS_REFUSED


TIMES_REFUSED = (
    "",
    "now",
    "2026-11-21",
    "2026-11-21T22:04:00",
    "2026-11-21 22:04:00Z",
    "2026-11-21T22:04:00Z\n",
    "2026-13-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-11-21T24:61:00Z",
    "2026-11-21T22:04:00+25:00",
    "2026-11-21T22:04:00.Z",
    "\uff12026-11-21T22:04:00Z",
    "1795300000",
)

# Every form of GUARANTEES 20, for a guard that lets 127.0.0.9 and nothing else through.
URLS_REFUSED = (
    "",
    "/relative",
    "example.com",
    "//example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "javascript:alert(1)",
    "http:example.com",
    "http:/example.com",
    "http:///x",
    "http://",
    "https://?x",
    "http://user@example.com/",
    "http://user:password@example.com/",
    "http://127.0.0.9@example.com/",
    "http://example.com\\@127.0.0.9/",
    "http://example.com/a b",
    "http://example.com/\t",
    "http://example.com/\n",
    "http://example.com/\x7f",
    "http://exa\0mple.com/",
    " http://example.com/",
    "http://example.com:0/",
    "http://example.com:65536/",
    "http://example.com:/",
    "http://example.com:x/",
    "http://-example.com/",
    "http://exam_ple-.com/",
    "http://a..b/",
    "http://xn--a/",
    "http://\u24db\u24de\u24d2al\u24d7ost/",
    "http://fa\u00df.de/",
    "http://127.0.0.1/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://127.0.0.1./",
    "http://\uff11\uff12\uff17.0.0.1/",
    "http://127%2e0.0.1/",
    "http://0.0.0.0/",
    "http://10.0.0.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data",
    "http://168.63.129.16/",
    "http://172.16.0.1/",
    "http://192.0.0.192/",
    "http://192.0.2.1/",
    "http://192.88.99.1/",
    "http://192.168.0.1/",
    "http://198.18.0.1/",
    "http://198.51.100.1/",
    "http://203.0.113.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://[::]/",
    "http://[::1]/",
    "http://[::1%25lo]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::127.0.0.1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2001::1]/",
    "http://[2001:db8::1]/",
    "http://[3fff::1]/",
    "http://[fe80::1]/",
    "http://[fec0::1]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/",
    "http://[ff02::1]/",
    "http://[2606:4700::5efe:7f00:1]/",
    "http://[::1/",
    "http://[v1.x]/",
    "http://localhost/",
    "http://127.0.0.9/\u2022\u2022\u2022\u2022",
)
URLS_TAKEN = (
    "http://127.0.0.9",
    "http://127.0.0.9:1/x?y=z&\u00e9=\U0001f600#fragment",
    "HTTP://127.0.0.9:65535/",
    "http://8.8.8.8/",
    "https://[2606:4700:4700::1111]:8443/hook",
)


def url(most: int) -> Cases:
    """A target's URL of at most `most` characters."""
    base = "http://127.0.0.9/"
    cases = types("string") + listed(URLS_REFUSED, ok=False) + listed(URLS_TAKEN, ok=True)
    cases += good(longest=base.ljust(most, "x"), longest_astral=base.ljust(most, ASTRAL))
    return cases + bad(
        too_long=base.ljust(most + 1, "x"), too_long_astral=base.ljust(most + 1, ASTRAL)
    )


PATTERNS_REFUSED = (
    "",
    "**",
    "*.x",
    "build*",
    "build.*.x",
    "build.**",
    ".*",
    "build.",
    ".build",
    "a..b",
    "a b",
    "a.b\n",
    "a\0b",
    "-a.b",
    "\u0430.b",
    "x" * 129,
    "x" * 127 + ".*",
)
PATTERNS_TAKEN: tuple[str, ...] = (
    "*",
    "a",
    "a.b-c_d.E",
    "build.*",
    "tocsin.*",
    "tocsin.channel.failing",
)
PATTERNS_TAKEN += ("x" * 128, "x" * 126 + ".*")


def patterns() -> Cases:
    cases = types("array") + good(none=[], most=["a.b"] * 100) + bad(too_many=["a.b"] * 101)
    cases += tuple(Case(f"of {one!r}"[:60], [one], True) for one in PATTERNS_TAKEN)
    cases += tuple(Case(f"of {one!r}"[:60], ["a", one], False) for one in PATTERNS_REFUSED)
    return cases + bad(number_inside=[1], null_inside=["a", None])


NUMBERS_REFUSED = (
    "",
    "-1",
    "%2b1",
    "1.0",
    "1e1",
    "0x1",
    "one",
    "1_0",
    "%EF%BC%91",
    "1%00",
    "9" * 40,
)


def number(least: int, most: int) -> Cases:
    """A whole number in a query string."""
    edges = listed((str(least), str(most), f"0{least}"), ok=True)
    return edges + listed((str(least - 1), str(most + 1), *NUMBERS_REFUSED), ok=False)


def moment() -> Cases:
    """A time in a query string; left empty it is not said."""
    taken: tuple[str, ...] = (
        "2026-11-21T22:04:00Z",
        "2026-11-21t22:04:00.123456789z",
        "0001-01-01T00:00:00Z",
    )
    taken += (
        "2026-11-21T22:04:00%2B01:00",
        "2026-11-21T22:04:00+01:00",
        "9999-12-31T23:59:59Z",
        "",
    )
    refused = tuple(one for one in TIMES_REFUSED if one and one.isascii() and "\n" not in one)
    refused += ("0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00")
    refused += ("2026-11-21T22:04:00Z%0A", "%EF%BC%92026-11-21T22:04:00Z", "a%00")
    return listed(taken, ok=True) + listed(
        (one.replace(" ", "%20") for one in refused if " " not in one), ok=False
    )
