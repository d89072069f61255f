"""How a field's type and bounds are written for people: in the reference, and in the comments of parley.d.ts."""

from typing import Any, Final

from protocol.types import MAX_SAFE_INTEGER, ROOM_ID_PATTERN, USER_ID_PATTERN
from server.catalogue import SCHEMA_REF, Catalogue

_ID_PATTERNS: Final = frozenset({ROOM_ID_PATTERN, USER_ID_PATTERN})
"""Said once for all events: section 1 and 2 of the contract."""
_BOUNDS: Final = (
    ("minLength", "maxLength", "characters"),
    ("minimum", "maximum", ""),
    ("minItems", "maxItems", "items"),
    ("minProperties", "maxProperties", "entries"),
)


def fields_of(schema: dict[str, Any], catalogue: Catalogue) -> str:
    """All fields on one line: `roomId: string, limit?: integer 1–100, default 50`."""
    required = schema.get("required", ())
    return ", ".join(
        f"{name}{'' if name in required else '?'}: {phrase(kind, catalogue)}"
        for name, kind in schema.get("properties", {}).items()
        if name != "success"
    )


def phrase(schema: dict[str, Any], catalogue: Catalogue) -> str:
    """A type with its bounds: `integer 1–100`, `[string] ≤10`."""
    kind, limits = words(schema, catalogue), bounds(schema, units=False)
    return f"{kind}, {limits}" if limits.startswith("default") else f"{kind} {limits}".rstrip()


def words(schema: dict[str, Any], catalogue: Catalogue) -> str:
    """A type in words: things by name, choices spelled out, lists in brackets."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(SCHEMA_REF)
        return name if "properties" in catalogue.schemas[name] else words(catalogue.schemas[name], catalogue)
    if "anyOf" in schema:
        if {"type": "string"} in schema["anyOf"] and any("enum" in choice for choice in schema["anyOf"]):
            return "string"
        return " or ".join(words(choice, catalogue) for choice in schema["anyOf"])
    if "const" in schema:
        return str(schema["const"]).lower() if isinstance(schema["const"], bool) else str(schema["const"])
    if "enum" in schema:
        return " / ".join(schema["enum"])
    if schema["type"] == "array":
        return f"[{phrase(schema['items'], catalogue)}]"
    if schema["type"] == "object":
        values = mapped(schema)
        return "object" if values is None else f"{{ …: {phrase(values, catalogue)} }}"
    return "time" if schema.get("format") == "date-time" else str(schema["type"])


def mapped(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of a map's values; None when they can be anything."""
    kinds = (schema.get("additionalProperties"), *schema.get("patternProperties", {}).values())
    return next((kind for kind in kinds if isinstance(kind, dict)), None)


def bounds(schema: dict[str, Any], *, units: bool = True) -> str:
    """What the type leaves open: lengths, ranges, patterns, and the default; ids have one pattern everywhere."""
    found = []
    for least, most, unit in _BOUNDS:
        if limits := _range(schema.get(least), schema.get(most)):
            found.append(f"{limits} {unit}".strip() if units else limits)
    if units and schema.get("pattern") and schema["pattern"] not in _ID_PATTERNS:
        found.append(schema["pattern"])
    if (default := schema.get("default")) is not None:
        found.append(f"default {str(default).lower()}")
    return ", ".join(found)


def _range(least: int | None, most: int | None) -> str:
    if most is None or most == MAX_SAFE_INTEGER:
        return "" if least is None else f"≥{least:,}"
    if least is None or least == most:
        return f"≤{most:,}" if least is None else f"{most:,}"
    return f"{least:,}–{most:,}"
