"""Checks JSON against a JSON Schema, and says which fields are wrong without repeating what they hold."""

from __future__ import annotations

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
    """A function that gives every field of a valid object, and None for those that are absent.

    It takes null for absent, as many serializers write it, and raises InvalidRequest for anything invalid.
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
        if errors := [FieldError(name, "is not Unicode") for name in given if not _is_unicode(given[name])]:
            raise InvalidRequest.of_fields(*errors)
        return given

    return check


def _field_errors(refusal: fastjsonschema.JsonSchemaValuesException) -> Iterator[FieldError]:
    for error in refusal.errors:
        field = ".".join(map(str, error.path[1:]))
        if error.rule == "additionalProperties":
            for unknown in error.value.keys() - error.definition["properties"].keys():
                # A key that is no name may be anything, and is not repeated.
                name = str(unknown) if _NAME.fullmatch(str(unknown)) else "a field"
                yield FieldError(name, "is unknown")
        elif error.value is None:
            yield FieldError(field, "is required")
        elif error.rule == "type":
            # Where null may stand for absent, it comes last.
            kind = (
                error.rule_definition if isinstance(error.rule_definition, str) else error.rule_definition[0]
            )
            yield FieldError(field, f"must be {'an' if kind[0] in 'aeio' else 'a'} {kind}")
        elif error.rule == "format":
            yield FieldError(field, "must be an RFC 3339 date-time with a time zone")
        else:
            # Its messages quote rules, never values: "data.flow_sid must match pattern …".
            yield FieldError(field, error.message.removeprefix(f"{error.name} "))


def _is_unicode(value: object) -> bool:
    """Whether a string can be written as UTF-8: JSON's escapes can spell half of a surrogate pair."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return True
