"""JMESPath with Powertools' functions and our own.

Operators write the expressions, and senders are authenticated: the only limits are an expression's length, a
body's size, Python's recursion limit and the decompressed size.
"""

from __future__ import annotations

import zlib
from base64 import b64decode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import jmespath
from aws_lambda_powertools.utilities.jmespath_utils import PowertoolsFunctions
from jmespath.exceptions import ArityError, JMESPathError, JMESPathTypeError, UnknownFunctionError
from jmespath.functions import signature

T = TypeVar("T")

MAX_LENGTH = 1024
"""Characters of an expression."""

MAX_INFLATED = 2**20
"""Bytes that `powertools_base64_gzip` may decompress to: as many as a body may have."""


class EvaluationError(ValueError):
    """An expression cannot be evaluated for this payload; the message contains neither.

    Attributes:
        value: what it failed for, if known; never for a log.
    """

    def __init__(self, reason: str = "", value: object = None) -> None:
        super().__init__(f"cannot be evaluated: {reason}" if reason else "cannot be evaluated")
        self.value = value


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression."""

    text: str
    _parsed: Any = field(repr=False, compare=False)

    @classmethod
    def compile(cls, text: str) -> Expression:
        """Parse an expression and try it without a payload.

        JMESPath looks functions up when it calls them, so the trial finds a misspelt one before the first
        event, unless the call depends on the payload.

        Raises:
            ValueError: the message does not quote the expression.
        """
        if len(text) > MAX_LENGTH:
            raise ValueError(f"is longer than {MAX_LENGTH} characters")
        try:
            parsed = jmespath.compile(text)
        except JMESPathError as error:
            position = getattr(error, "lex_position", None)
            where = f" (character {position + 1})" if isinstance(position, int) else ""
            raise ValueError(f"is not valid JMESPath{where}") from None
        except RecursionError:
            raise ValueError("is nested too deeply") from None
        try:
            parsed.search(None, _OPTIONS)
        except UnknownFunctionError:
            raise ValueError("calls a function that does not exist") from None
        except ArityError as error:
            raise ValueError(f"calls {error.function_name} with the wrong number of arguments") from None
        except Exception:  # noqa: BLE001, S110 - it works, but not without a payload
            pass
        return cls(text, parsed)

    def search(self, payload: object) -> Any:  # noqa: ANN401 - any JSON
        """The expression's result; None if it finds nothing.

        Raises:
            EvaluationError: a function got an invalid argument.
        """
        try:
            return self._parsed.search(payload, _OPTIONS)
        except EvaluationError:
            raise
        except JMESPathTypeError as error:
            # JMESPath sometimes says `NoneType`.
            given = {"NoneType": "null", "str": "string", "int": "number", "float": "number"}
            reason = (
                f"{error.function_name} does not accept {given.get(error.actual_type, error.actual_type)}"
            )
            raise EvaluationError(reason, error.current_value) from None
        except Exception:  # noqa: BLE001 - functions raise anything for odd input: TypeError, OverflowError, zlib.error
            # Without its cause: JMESPath's errors quote the payload.
            raise EvaluationError from None


# The decorator is untyped.
# mypy: disable-error-code="untyped-decorator"
class _Functions(PowertoolsFunctions):
    """Powertools' functions, with limited decompression, and some for mapping webhooks."""

    @signature({"types": ["string"]})
    def _func_powertools_base64_gzip(self, value: str) -> str:
        inflating = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        inflated = inflating.decompress(b64decode(value), MAX_INFLATED)
        if not inflating.eof:
            raise ValueError
        return inflated.decode()

    @signature({"types": ["number", "string", "null"]})
    def _func_from_unix(self, value: float | str | None) -> str | None:
        return _date_time(value, 1)

    @signature({"types": ["number", "string", "null"]})
    def _func_from_unix_ms(self, value: float | str | None) -> str | None:
        return _date_time(value, 1000)

    @signature({"types": ["string", "number", "null"], "variadic": True})
    def _func_e164(self, phone: str | float | None, *optional: object) -> str | None:
        region = _optional("e164", optional, str, type(None))
        if phone in (None, ""):
            return None
        from end_conversation.webhooks.phone_numbers import to_e164  # noqa: PLC0415 - it says why

        text = f"{phone:.0f}" if isinstance(phone, float) else str(phone)
        try:
            return to_e164(text, region)
        except ValueError as error:
            raise EvaluationError(str(error), phone) from None

    # The next three are those of JMESPath Community:
    # https://github.com/jmespath-community/jmespath.spec/blob/main/jep-014-string-functions.md

    @signature({"types": ["string"]}, {"types": ["string"]}, {"types": ["string"], "variadic": True})
    def _func_replace(self, subject: str, old: str, new: str, *optional: object) -> str:
        return subject.replace(old, new, _count("replace", optional))

    @signature({"types": ["string"]}, {"types": ["string"], "variadic": True})
    def _func_split(self, subject: str, search: str, *optional: object) -> list[str]:
        count = _count("split", optional)
        if search:
            return subject.split(search, count)
        if not 0 <= count < len(subject):
            return list(subject)
        return [*subject[:count], subject[count:]]

    @signature({"types": ["string"], "variadic": True})
    def _func_trim(self, subject: str, *optional: object) -> str:
        return subject.strip(_optional("trim", optional, str) or None)


def _optional(function: str, given: tuple[object, ...], *kinds: type[T]) -> T | None:
    """The last argument of a function, which may be missing."""
    if len(given) > 1:
        raise ArityError(1, len(given), function)
    for value in given:
        # To JMESPath, a boolean is not a number.
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise TypeError
        return value
    return None


def _count(function: str, given: tuple[object, ...]) -> int:
    """How many occurrences; -1: all, as in Python's methods."""
    count = _optional(function, given, int, float)
    if count is None:
        return -1
    if count < 0 or count != int(count):
        raise ValueError
    return int(count)


_OPTIONS = jmespath.Options(custom_functions=_Functions())


def _date_time(value: float | str | None, per_second: int) -> str | None:
    return None if value is None else datetime.fromtimestamp(float(value) / per_second, UTC).isoformat()
