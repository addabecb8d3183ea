"""What the reference page shows, read from the OpenAPI document."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tocsin.web.reference.document import Json, dialect_of, name_of, operations, tag
from tocsin.web.reference.words import DialectWords

DEPTH_MAX = 3
_PLACES = {"path": "Path", "query": "Query", "header": "Headers"}


def model(
    document: Json, dialects: Sequence[DialectWords], types: Sequence[Any], base: str
) -> dict[str, Any]:
    """Everything the template needs, in its order; `types` are the channel types."""
    shown = [_dialect(document, one, dialects) for one in dialects]
    return {
        "version": document["info"]["version"],
        "setup": f"export BASE={base}\nexport KEY=toc_...     # a key, or the operator token\n"
        "export ORG=acme        # id or slug of your organization",
        "dialects": shown,
        "types": [
            {
                "name": one.name,
                "title": one.title,
                "text": one.schema().get("description", ""),
                "fields": list(_settings(one.schema())),
            }
            for one in types
        ],
    }


def _dialect(document: Json, words: DialectWords, dialects: Sequence[DialectWords]) -> Json:
    statuses: dict[str, str] = {}
    resources = []
    for name, text in words.resources.items():
        calls = [
            _call(document, method, path, operation)
            for method, path, operation in operations(document)
            if dialect_of(path, dialects) is words and operation["tags"] == [tag(words, name)]
        ]
        order = {name: at for at, name in enumerate(words.calls)}
        calls.sort(key=lambda call: order.get(f"{call['method']} {''.join(call['path'])}", 999))
        for call in calls:
            statuses |= {r["status"]: r["text"] for r in call["replies"] if r["status"] >= "4"}
        anchor = slug(tag(words, name))
        resources.append({"name": name, "anchor": anchor, "text": text, "calls": calls})
    return {
        "name": words.name,
        "anchor": words.anchor,
        "prefix": words.prefix,
        "text": words.text,
        "credential": words.credential,
        "error": _pretty(words.errors[400]),
        "statuses": [{"status": s, "text": t} for s, t in sorted(statuses.items())],
        "resources": resources,
    }


def _call(document: Json, method: str, path: str, operation: Json) -> Json:
    schemas = document["components"]["schemas"]
    replies = sorted(operation["responses"].items())
    body = operation.get("requestBody")
    sent = _target(_schema(body), schemas) if body else {}
    success = replies[0][1]
    media = success.get("content", {}).get("application/json", {})
    summary = operation["summary"]
    return {
        "method": method.upper(),
        "path": [part for part in re.split(r"(\{\w+\})", path) if part],
        "anchor": slug(f"{method} {path}"),
        "summary": summary,
        "text": _beyond(operation.get("description", ""), summary),
        "find": f"{summary} {method} {path} {' '.join(operation['tags'])}".lower(),
        "parameters": list(_parameters(operation.get("parameters", ()))),
        "body": list(_fields(sent, schemas)),
        "strict": sent.get("additionalProperties") is False,
        "replies": [{"status": status, "text": reply["description"]} for status, reply in replies],
        "reply": list(_fields(_target(media.get("schema", {}), schemas), schemas)),
        "curl": operation["x-codeSamples"][0]["source"],
        "example": _pretty(media["example"]) if "example" in media else "",
    }


def _parameters(parameters: Sequence[Json]) -> Iterator[Json]:
    for place, title in _PLACES.items():
        found = [
            {
                "name": one["name"],
                "type": type_text(one.get("schema", {})),
                "required": one.get("required", False) and place != "path",
                "text": _sentence(one.get("description", "")),
            }
            for one in parameters
            if one["in"] == place
        ]
        if found:
            yield {"title": title, "fields": found}


def _settings(schema: Json) -> Iterator[Json]:
    """The settings of a channel type, whose schema brings along what it refers to."""
    return _fields(
        schema, {f"#/$defs/{name}": one for name, one in schema.get("$defs", {}).items()}
    )


def _fields(schema: Json, schemas: Mapping[str, Json], before: str = "") -> Iterator[Json]:
    """The fields of an object; those of objects within it follow with dotted names."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        yield {
            "name": before + name,
            "type": type_text(field, schemas),
            "required": name in required and not before,
            "text": field.get("description", "") or field.get("title", ""),
        }
        inner, many = _inner(field, schemas)
        if inner and before.count(".") < DEPTH_MAX - 1:
            yield from _fields(inner, schemas, f"{before}{name}{'[]' if many else ''}.")


def _inner(field: Json, schemas: Mapping[str, Json]) -> tuple[Json, bool]:
    """The object that a field holds, one or many of it; empty where it holds none."""
    for one in (field, *field.get("anyOf", ())):
        target = _target(one, schemas)
        if target.get("properties"):
            return target, False
        if target.get("type") == "array":
            items = _target(target.get("items", {}), schemas)
            if items.get("properties"):
                return items, True
    return {}, False


def _target(schema: Json, schemas: Mapping[str, Json]) -> Json:
    ref = schema.get("$ref")
    return schemas[name_of(ref)] if ref else schema


def _schema(holder: Json) -> Json:
    schema: Json = holder["content"]["application/json"]["schema"]
    return schema


def type_text(schema: Json, schemas: Mapping[str, Json] | None = None) -> str:
    """A type in words."""
    target = _target(schema, schemas) if schemas else schema
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        texts = list(dict.fromkeys(type_text(one, schemas) for one in choices))
        texts.sort(key=lambda text: text == "null")
        return " or ".join(texts)
    if "enum" in target:
        return " · ".join(map(str, target["enum"]))
    kind = target.get("type")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {type_text(target.get('items', {}), schemas)}"
    bounds = [str(target[name]) for name in ("minimum", "maximum") if name in target]
    text = kind or "any JSON"
    if len(bounds) == 2:
        text += f", {bounds[0]} to {bounds[1]}"
    default = schema.get("default")
    return f"{text}, default {json.dumps(default)}" if default not in (None, "") else text


def _beyond(text: str, summary: str) -> str:
    """What a description says that the summary has not said."""
    if not text.lower().startswith(summary.lower()):
        return text
    rest = text[len(summary) :]
    if rest[:1] not in ";:.,":
        return text
    rest = rest[1:].lstrip()
    return rest[:1].upper() + rest[1:]


def _sentence(text: str) -> str:
    """A note as a sentence."""
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else ""


def _pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def slug(text: str) -> str:
    """A name for an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
