"""JMESPath with Powertools' functions and our own.

Expressions are the operator's own, and senders are authenticated: the only limits are an expression's length,
a body's size, Python's recursion limit and the size of what is decompressed.
"""

from __future__ import annotations

import re
import zlib
from base64 import b64decode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jmespath
from aws_lambda_powertools.utilities.jmespath_utils import PowertoolsFunctions
from jmespath.exceptions import ArityError, JMESPathError, UnknownFunctionError
from jmespath.functions import signature

MAX_LENGTH = 1024
"""Characters of an expression."""

MAX_INFLATED = 2**20
"""Bytes that `powertools_base64_gzip` may decompress to: as many as a body may have."""

_E164 = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
_BETWEEN_DIGITS = re.compile(r"[\s().\-/]+")


class EvaluationError(ValueError):
    """An expression cannot be evaluated for this payload; the message contains neither."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression."""

    text: str
    _parsed: Any = field(repr=False, compare=False)

    @classmethod
    def compile(cls, text: str) -> Expression:
        """Parse an expression and try it without a payload.

        JMESPath looks functions up when it calls them, so the trial finds a misspelt one before the first
        event does, unless the call depends on the payload.

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
        except Exception:  # noqa: BLE001 - functions raise anything for odd input: TypeError, OverflowError, zlib.error
            # Without its cause: JMESPath's errors quote the payload.
            raise EvaluationError("cannot be evaluated") from None


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

    @signature({"types": ["string", "null"]})
    def _func_e164(self, value: str | None) -> str | None:
        number = _BETWEEN_DIGITS.sub("", value or "")
        if number and not _E164.fullmatch(number):
            raise ValueError
        return number or None


_OPTIONS = jmespath.Options(custom_functions=_Functions())


def _date_time(value: float | str | None, per_second: int) -> str | None:
    return None if value is None else datetime.fromtimestamp(float(value) / per_second, UTC).isoformat()
