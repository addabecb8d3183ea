"""What a dialect adds to its types, for people: names, explanations, examples.

A test holds all of it against the code: every call and every field has its words, nothing else
has, and every example is what the call takes and answers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from tocsin.domain import errors
from tocsin.web.replies import Refusal


class CallWords(Struct, frozen=True, kw_only=True):
    """One call; `query` goes into its example, `reply` is the body of its success."""

    resource: str
    summary: str
    text: str = ""
    query: str = ""
    request: Any = UNSET
    reply: Any = UNSET


class DialectWords(Struct, frozen=True, kw_only=True):
    """One dialect: how it is introduced, its calls by `METHOD /path`, its fields by struct.

    `fields["*"]` and `parameters` are by name alone and count where nothing closer is said;
    `resources` are in the order of the page, each with a sentence; `errors` are example bodies.
    """

    name: str
    prefix: str
    text: str
    credential: str
    resources: Mapping[str, str]
    parameters: Mapping[str, str]
    fields: Mapping[str, Mapping[str, str]]
    calls: Mapping[str, CallWords]
    errors: Mapping[int, Any]
    structs: Sequence[type[Struct]]
    anchor: str

    def field(self, struct: str, name: str) -> str:
        """What is said of a field; empty where nothing is."""
        return self.fields.get(struct, {}).get(name) or self.fields["*"].get(name, "")


def example_errors(refuse: Callable[[errors.TocsinError], Refusal]) -> dict[int, Any]:
    """One body for each status, as the dialect refuses."""
    refused = (
        errors.Invalid("name", "must be 1 to 128 characters"),
        errors.InvalidToken(),
        errors.Forbidden(),
        errors.NotFound(),
        errors.Conflict("The slug is taken.", "slug"),
        errors.PayloadTooLarge("The body is larger than 1048576 bytes."),
        errors.UnsupportedEncoding(),
        errors.RateLimited(),
        errors.Unavailable(),
    )
    replies = map(refuse, refused)
    return {reply.status: msgspec.json.decode(reply.body) for reply in replies}
