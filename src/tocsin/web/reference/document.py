"""The OpenAPI document: what the framework knows of the routes, msgspec of the types, and words."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from tocsin.web.reference.words import CallWords, DialectWords

Json = dict[str, Any]

METHODS = ("get", "post", "put", "patch", "delete")

_LIST = re.compile(r"ListOut_(?:tocsin(?:\.\w+)*\.)?(\w+?)Out_")
_QUALIFIED = re.compile(r"tocsin(?:\.\w+)*\.(\w+)")
_PREFIX = "#/components/schemas/"
_VARIABLES = {"org": "ORG", "project": "PROJECT", "app": "APP"}
_IDS = {
    "keys": "KEY_ID",
    "api-keys": "KEY_ID",
    "notification-channels": "CHANNEL",
    "deliveries": "DELIVERY",
}


def whole(schema: Json, dialects: Sequence[DialectWords]) -> Json:
    """The document with exact schemas and with everything that words say."""
    structs = [struct for dialect in dialects for struct in dialect.structs]
    _, exact = msgspec.json.schema_components(structs, ref_template=_PREFIX + "{name}")
    components = schema.get("components", {})
    known = components.get("schemas", {})
    document: Json = _renamed(
        schema | {"components": components | {"schemas": known | exact}, "tags": []}
    )
    schemas = document["components"]["schemas"]
    groups = []
    for dialect in dialects:
        _describe_fields(schemas, dialect)
        names = [tag(dialect, name) for name in dialect.resources]
        groups.append({"name": dialect.name, "tags": names})
        document["tags"] += [
            {"name": name, "description": text}
            for name, text in zip(names, dialect.resources.values(), strict=True)
        ]
    document["x-tagGroups"] = groups
    for method, path, operation in operations(document):
        dialect = dialect_of(path, dialects)
        words = dialect.calls.get(f"{method.upper()} {path}")
        _describe(operation, dialect, words)
        sample = curl(method, path, words, operation)
        operation["x-codeSamples"] = [{"lang": "Shell", "label": "curl", "source": sample}]
    used = _used(document)
    document["components"]["schemas"] = {n: s for n, s in schemas.items() if n in used}
    return document


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Every call: method, path, operation."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


def dialect_of(path: str, dialects: Sequence[DialectWords]) -> DialectWords:
    """The dialect that a path belongs to: the longest prefix."""
    return max(
        (one for one in dialects if path.startswith(one.prefix)), key=lambda one: len(one.prefix)
    )


def tag(dialect: DialectWords, resource: str) -> str:
    """A resource's name among those of all dialects."""
    return resource if dialect.prefix.startswith("/api") else f"{dialect.name}: {resource}"


def name_of(ref: str) -> str:
    """The name that a reference leads to."""
    return ref.removeprefix(_PREFIX)


def _renamed(document: Json) -> Json:
    """Short names for all schemas, in the references too."""

    def short(name: str) -> str:
        return _QUALIFIED.sub(r"\1", _LIST.sub(r"\1List", name))

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: _PREFIX + short(name_of(inner))
                if key == "$ref" and isinstance(inner, str)
                else walk(inner)
                for key, inner in value.items()
            }
        return [walk(inner) for inner in value] if isinstance(value, list) else value

    walked: Json = walk(document)
    schemas = walked["components"]["schemas"]
    walked["components"]["schemas"] = {short(name): one for name, one in schemas.items()}
    return walked


def _describe_fields(schemas: Json, dialect: DialectWords) -> None:
    for struct in _reached(schemas, dialect):
        schema = schemas[struct]
        text = schema.get("description")
        if text:
            schema["description"] = " ".join(text.split())
        for name, field in schema.get("properties", {}).items():
            said = dialect.field(struct, name)
            if said:
                field["description"] = said


def _reached(schemas: Json, dialect: DialectWords) -> Iterator[str]:
    """The schemas that belong to a dialect: its structs and lists, and what they are made of."""
    waiting = [struct.__name__ for struct in dialect.structs]
    waiting += [name for name in schemas if name.removesuffix("List") + "Out" in waiting]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in schemas:
            continue
        seen.add(name)
        waiting += _references(schemas[name])
        yield name


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(ref := value.get("$ref"), str):
            yield name_of(ref)
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _used(document: Json) -> set[str]:
    """The schemas that some call leads to."""
    schemas = document["components"]["schemas"]
    found: set[str] = set()
    waiting = list(_references(document["paths"]))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _references(schemas[name])
    return found


def _describe(operation: Json, dialect: DialectWords, words: CallWords | None) -> None:
    for parameter in operation.get("parameters", ()):
        if not parameter.get("description"):
            parameter["description"] = dialect.parameters.get(parameter["name"], "")
    for status, reply in operation["responses"].items():
        reply["description"] = reply["description"].rstrip(".") + "."
        if int(status) in dialect.errors and int(status) >= 400:
            for media in reply.get("content", {}).values():
                media["example"] = dialect.errors[int(status)]
    text = " ".join(operation.get("description", "").split())
    if words is None:
        operation["summary"] = text.partition(";")[0].rstrip(".") or operation["summary"]
        operation["tags"] = [tag(dialect, next(iter(dialect.resources)))]
        return
    operation["tags"] = [tag(dialect, words.resource)]
    operation["summary"] = words.summary
    operation["description"] = f"{text} {words.text}".strip()
    if words.request is not UNSET:
        _media(operation["requestBody"])["example"] = words.request
    for status, reply in operation["responses"].items():
        if int(status) < 400:
            reply["description"] = _SUCCESS.get(int(status), reply["description"])
            if words.reply is not UNSET:
                _media(reply)["example"] = words.reply
            else:
                reply.pop("content", None)


_SUCCESS = {
    200: "Done.",
    201: "Made.",
    202: "Stored, or under way.",
    204: "Done; there is nothing to say.",
}


def _media(holder: Mapping[str, Any]) -> Json:
    media: Json = holder["content"]["application/json"]
    return media


def curl(method: str, path: str, words: CallWords | None, operation: Json) -> str:
    """The call as a command, with variables for what is everybody's own."""
    parts = path.split("/")
    for at, part in enumerate(parts):
        if part.startswith("{"):
            parts[at] = f"${variable(part[1:-1], parts[at - 1])}"
    query = f"?{words.query}" if words and words.query else ""
    lines = [f'"$BASE{"/".join(parts)}{query}"', '-H "Authorization: Bearer $KEY"']
    if words and words.request is not UNSET:
        lines.append('-H "Content-Type: application/json"')
        body = json.dumps(words.request, ensure_ascii=False, indent=2).replace("\n", "\n  ")
        lines.append(f"-d '{body}'")
    implied = method == "get" or (method == "post" and "requestBody" in operation)
    start = "curl" if implied else f"curl -X {method.upper()}"
    return f"{start} " + " \\\n  ".join(lines)


def variable(parameter: str, before: str) -> str:
    """The shell variable that stands for a path parameter."""
    return _VARIABLES.get(parameter) or _IDS.get(before) or before.removesuffix("s").upper()
