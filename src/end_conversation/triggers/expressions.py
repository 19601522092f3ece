"""JMESPath with Powertools' functions and our own, for expressions of limited cost.

JMESPath has no loops, but it can double its input again and again (`[@,@][]|[@,@][]|…`), and it can nest.
Each expression is therefore measured once, when it is compiled: how often it scans its input at worst. This
needs the syntax tree, an implementation detail of JMESPath's parser: the version is locked, and a test fails
if the tree gets other kinds of nodes.
"""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import jmespath
from aws_lambda_powertools.utilities.jmespath_utils import PowertoolsFunctions
from jmespath.exceptions import ArityError, JMESPathError, UnknownFunctionError
from jmespath.functions import signature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LONGEST = 1024
"""Characters of an expression."""

DEEPEST = 32
"""Levels of an expression: each takes a few of Python's stack frames."""

MOST_PASSES = 80
"""How often all expressions of a declaration together may scan a payload.

A scan of one megabyte of the smallest elements takes 0.1 to 0.3 seconds, so `sources` limits bodies, too.
"""

INFLATION = 8
"""How many times longer `powertools_base64_gzip` may make a string."""

_ESCAPING = 2
"""How many times longer, as JSON, `to_string` may make a value: it escapes quotes and backslashes."""

_FOR_EACH = {"map", "sort_by", "min_by", "max_by"}
"""The functions that take an expression reference."""

_E164 = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
_BETWEEN_DIGITS = re.compile(r"[\s().\-/]+")

_Node = dict[str, Any]


class EvaluationError(ValueError):
    """An expression cannot be evaluated for this payload; the message contains neither."""


class Cost(NamedTuple):
    """The cost of an expression at worst.

    Attributes:
        growth: size of the result as JSON, as a multiple of the input's.
        nodes: how many have to be visited.
        passes: how often the input is scanned.
    """

    growth: int = 1
    nodes: int = 1
    passes: int = 0


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed and measured expression."""

    text: str
    cost: Cost
    _parsed: Any = field(repr=False, compare=False)

    @classmethod
    def compile(cls, text: str) -> Expression:
        """Parse and measure an expression.

        Raises:
            ValueError: the message does not quote the expression.
        """
        if len(text) > LONGEST:
            raise ValueError(f"is longer than {LONGEST} characters")
        try:
            parsed = jmespath.compile(text)
        except JMESPathError as error:
            position = getattr(error, "lex_position", None)
            where = f" (character {position + 1})" if isinstance(position, int) else ""
            raise ValueError(f"is not valid JMESPath{where}") from None
        except RecursionError:
            raise ValueError("is nested too deeply") from None
        return cls(text, _cost(parsed.parsed, DEEPEST), parsed)

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


def passes(each: Expression | None, others: Iterable[Expression]) -> int:
    """How often the expressions of a declaration scan a payload: `others` get what `each` finds."""
    first = Cost() if each is None else each.cost
    return first.passes + first.growth * sum(other.cost.passes for other in others)


# The decorator is untyped.
# mypy: disable-error-code="untyped-decorator"
class _Functions(PowertoolsFunctions):
    """Powertools' functions, with limited decompression, and some for mapping webhooks."""

    @signature({"types": ["string"]})
    def _func_powertools_base64_gzip(self, value: str) -> str:
        inflating = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        inflated = inflating.decompress(b64decode(value), INFLATION * len(value))
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


def _cost(  # noqa: C901, PLR0911 - one case per kind of node
    node: _Node, levels: int, *, repeated: bool = False
) -> Cost:
    """The cost of a node of JMESPath's syntax tree.

    Args:
        node: with its `type`, `children` and `value`.
        levels: how many are allowed.
        repeated: whether it is evaluated per element of a list, so that constants add up.

    Raises:
        ValueError: no payload could be evaluated, or it is nested too deeply.
    """
    if not levels:
        raise ValueError("is nested too deeply")

    def cost(child: _Node, *, repeated: bool = repeated) -> Cost:
        return _cost(child, levels - 1, repeated=repeated)

    # Those of a slice are numbers.
    children = [child for child in node["children"] if isinstance(child, dict)]
    match node["type"]:
        case "field" | "current" | "identity" | "index":
            return Cost()
        case "literal":
            return Cost(growth=len(json.dumps(node["value"])) if repeated else 1)
        case "slice":
            return Cost(passes=1)
        case "subexpression" | "index_expression" | "pipe":
            return _in_turn(map(cost, children))
        case "projection" | "value_projection" | "filter_projection":
            base, body, *condition = children
            return _for_each(cost(base), [cost(each, repeated=True) for each in (*condition, body)])
        case "function_expression":
            return _call(node["value"], children, cost)
        case "comparator" | "flatten":
            parts = _together(map(cost, children))
            return parts._replace(passes=parts.passes + parts.growth)
        case "multi_select_list" | "multi_select_dict":
            parts = _together(map(cost, children))
            return parts._replace(growth=parts.growth + 1)
        case "or_expression" | "and_expression" | "not_expression" | "key_val_pair":
            return _together(map(cost, children))
    raise ValueError("has an expression reference where none is allowed")


def _in_turn(parts: Iterable[Cost]) -> Cost:
    """The cost of parts that each get the previous one's result."""
    whole = Cost()
    for part in parts:
        whole = Cost(
            whole.growth * part.growth,
            whole.nodes + part.nodes,
            whole.passes + whole.growth * part.passes,
        )
    return whole


def _together(parts: Iterable[Cost]) -> Cost:
    """The cost of parts that get the same input."""
    whole = Cost(growth=0)
    for part in parts:
        whole = Cost(whole.growth + part.growth, whole.nodes + part.nodes, whole.passes + part.passes)
    return whole


def _for_each(base: Cost, body: list[Cost]) -> Cost:
    """The cost of `body` per element of `base`; its last part makes the result."""
    visits = 1 + sum(part.nodes + part.passes for part in body)
    return Cost(base.growth * body[-1].growth, 1 + base.nodes, base.passes + base.growth * visits)


def _call(name: str, arguments: list[_Node], cost: Callable[..., Cost]) -> Cost:
    _check_call(name, len(arguments))
    bodies = [each for each in arguments if name in _FOR_EACH and each["type"] == "expref"]
    values = _together(cost(each) for each in arguments if each not in bodies)
    called = values._replace(passes=values.passes + values.growth)
    for each in bodies:
        called = _for_each(called, [cost(each["children"][0], repeated=True)])
    factor = {"to_string": _ESCAPING, "powertools_base64_gzip": INFLATION}.get(name, 0)
    if name == "join":
        separator = arguments[0]
        if separator["type"] != "literal":
            # It is repeated per element, and both can be large.
            raise ValueError("joins with a separator that is not a literal")
        factor = 1 + len(str(separator["value"]))
    if factor:
        # Writing costs as much as reading.
        growth = called.growth * factor
        return called._replace(growth=growth, passes=called.passes + growth)
    return called


def _check_call(name: str, arguments: int) -> None:
    """Call it once: JMESPath itself only finds out when there is a payload."""
    try:
        jmespath.search(f"{name}({','.join('@' * arguments)})", None, _OPTIONS)
    except UnknownFunctionError:
        raise ValueError("calls a function that does not exist") from None
    except ArityError:
        raise ValueError(f"calls {name} with the wrong number of arguments") from None
    except Exception:  # noqa: BLE001, S110 - it exists, but rejects null
        pass
