"""Validates JSON against a JSON Schema; errors name fields, never their values."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import fastjsonschema

from end_conversation.errors import FieldError, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


_NAME = re.compile(r"[A-Za-z_-]{1,32}", re.ASCII)


def compiled(
    schema: dict[str, Any], formats: Mapping[str, Callable[[str], bool]] | None = None
) -> Callable[[object], dict[str, Any]]:
    """A function that returns every field of a valid object, None for absent ones.

    null counts as absent, since many serializers write it. Raises InvalidRequest for anything invalid.
    """
    validate = fastjsonschema.compile(schema, formats=formats or {}, fast_fail=False)

    def check(payload: object) -> dict[str, Any]:
        if not isinstance(payload, dict):
            raise InvalidRequest("the payload is not a JSON object")
        given = {name: payload.get(name) for name in schema["properties"]}
        if schema.get("additionalProperties") is False:
            given = payload | given
        try:
            validate(given)
        except fastjsonschema.JsonSchemaValuesException as refusal:
            raise InvalidRequest.of_fields(*_field_errors(refusal)) from None
        if errors := [FieldError(name, "is not Unicode") for name in given if not is_unicode(given[name])]:
            raise InvalidRequest.of_fields(*errors)
        return given

    return check


def _field_errors(refusal: fastjsonschema.JsonSchemaValuesException) -> Iterator[FieldError]:
    for error in refusal.errors:
        field = ".".join(map(str, error.path[1:]))
        if error.rule == "additionalProperties":
            for unknown in error.value.keys() - error.definition["properties"].keys():
                # A key that does not look like a name may be anything; don't repeat it.
                name = str(unknown) if _NAME.fullmatch(str(unknown)) else "a field"
                yield FieldError(name, "is unknown")
        elif error.value is None:
            yield FieldError(field, "is required")
        elif error.rule == "type":
            types = error.rule_definition
            kinds = [types] if isinstance(types, str) else [kind for kind in types if kind != "null"]
            names = [f"{'an' if kind[0] in 'aeio' else 'a'} {kind}" for kind in kinds]
            yield FieldError(field, f"must be {' or '.join(names)}")
        elif error.rule == "format":
            yield FieldError(field, "must be an RFC 3339 date-time with a time zone")
        else:
            # These messages quote rules, never values: "data.flow_sid must match pattern …".
            yield FieldError(field, error.message.removeprefix(f"{error.name} "))


def is_unicode(value: object) -> bool:
    """Whether JSON can be encoded as UTF-8: its escapes can produce lone surrogates."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
