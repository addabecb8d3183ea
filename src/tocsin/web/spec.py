"""What the OpenAPI document says beyond the types: parameters, errors, exact schemas."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from litestar import Request
from litestar.enums import MediaType
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Operation, Parameter, Schema
from litestar.openapi.spec.enums import OpenAPIType

DESCRIPTIONS = {
    400: "The request breaks a rule",
    401: "No valid credential",
    403: "The credential lacks the permission",
    404: "There is no such thing in sight",
    409: "Does not fit the present state",
    413: "The body is too large",
    415: "A content-encoding other than identity",
    429: "Too many requests; Retry-After says when the next one may come",
    503: "Not now; Retry-After says when to try again",
}


def text(name: str, description: str, *, place: Any = "query") -> Parameter:
    """A parameter of text."""
    return Parameter(
        name=name, param_in=place, description=description, schema=Schema(type=OpenAPIType.STRING)
    )


def number(name: str, description: str, *, least: int, most: int, default: int) -> Parameter:
    """A whole-number parameter of the query."""
    schema = Schema(type=OpenAPIType.INTEGER, minimum=least, maximum=most, default=default)
    return Parameter(name=name, param_in="query", description=description, schema=schema)


def choice(name: str, description: str, choices: Sequence[str]) -> Parameter:
    """A parameter of the query with a closed set of words."""
    schema = Schema(type=OpenAPIType.STRING, enum=list(choices))
    return Parameter(name=name, param_in="query", description=description, schema=schema)


def takes(*parameters: Parameter) -> type[Operation]:
    """The operation class of a handler that reads these parameters itself."""

    @dataclasses.dataclass
    class Described(Operation):
        def __post_init__(self) -> None:
            self.parameters = [*(self.parameters or []), *parameters]

    return Described


def errors(type: Any, media_type: str, *statuses: int) -> dict[int, ResponseSpec]:
    """The error replies of a call."""
    return {
        status: ResponseSpec(
            type,
            media_type=media_type,
            description=DESCRIPTIONS[status],
            generate_examples=False,
        )
        for status in statuses
    }


class Document(JsonRenderPlugin):
    """The document as `Reference` makes it, in the place of the framework's own."""

    def __init__(self) -> None:
        super().__init__(path="/")
        self.media_type = MediaType.JSON

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The document."""
        document: bytes = request.app.state["reference"].document()
        return document
