"""JMESPath with Powertools' functions, for expressions whose cost is bounded before they ever see a payload.

JMESPath has no loops, but it can double what it has again and again (`[@,@][]|[@,@][]|…`), and it can nest.
So an expression is measured once, when it is compiled: how often, at worst, it goes through its input. That
takes the syntax tree, which JMESPath's parser calls an implementation detail: the version is locked, and a test
fails if the tree gets nodes of another kind.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LONGEST = 1024
"""Characters of an expression."""

DEEPEST = 32
"""Levels of an expression: each takes Python a few frames, to parse and to evaluate."""

MOST_PASSES = 100
"""How often all expressions of a declaration together may go through a payload."""

INFLATION = 8
"""How many times its length `powertools_base64_gzip` may make of a text."""

_ESCAPING = 6
"""How many times its length `to_string` may make of a text."""

_Node = dict[str, Any]


class EvaluationError(ValueError):
    """An expression cannot be evaluated for this payload; holds nothing of either."""


class Cost(NamedTuple):
    """What an expression may cost.

    Attributes:
        growth: size of the result at most, as a multiple of the input's.
        nodes: how many there are to visit.
        passes: how often the input is gone through.
    """

    growth: int = 1
    nodes: int = 1
    passes: int = 0


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that has been parsed and measured."""

    text: str
    cost: Cost
    _parsed: Any = field(repr=False, compare=False)

    @classmethod
    def compile(cls, text: str) -> Expression:
        """Parse and measure an expression.

        Raises:
            ValueError: what is wrong with it; does not repeat it.
        """
        if len(text) > LONGEST:
            raise ValueError(f"is longer than {LONGEST} characters")
        import jmespath  # noqa: PLC0415 - only who declares a source waits for it

        try:
            parsed = jmespath.compile(text)
        except ValueError as error:
            where = getattr(error, "lex_position", None)
            at = f" (character {where + 1})" if isinstance(where, int) else ""
            raise ValueError(f"is not JMESPath{at}") from None
        except RecursionError:
            raise ValueError("is nested too deeply") from None
        return cls(text, _cost(parsed.parsed, DEEPEST, inside=False), parsed)

    def search(self, payload: object) -> Any:  # noqa: ANN401 - any JSON
        """What the expression finds; None if there is nothing.

        Raises:
            EvaluationError: a function cannot work with what it got.
        """
        try:
            return self._parsed.search(payload, _options())
        except Exception:  # noqa: BLE001 - TypeError, OverflowError, zlib.error…: whatever functions raise for odd input
            # Without its cause: JMESPath's errors quote the payload.
            raise EvaluationError("cannot be evaluated") from None


def passes(each: Expression | None, others: Iterable[Expression]) -> int:
    """How often the expressions of a declaration go through a payload: `others` get what `each` finds."""
    first = Cost() if each is None else each.cost
    return first.passes + first.growth * sum(other.cost.passes for other in others)


@cache
def _options() -> Any:  # noqa: ANN401 - jmespath has no types
    import jmespath  # noqa: PLC0415 - only who declares a source waits for them
    from aws_lambda_powertools.utilities.jmespath_utils import PowertoolsFunctions  # noqa: PLC0415
    from jmespath.functions import signature  # noqa: PLC0415

    class Functions(PowertoolsFunctions):
        """Powertools', but a few bytes do not become a gigabyte."""

        @signature({"types": ["string"]})  # type: ignore[untyped-decorator] # jmespath has no types
        def _func_powertools_base64_gzip(self, value: str) -> str:
            inflating = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            inflated = inflating.decompress(b64decode(value), INFLATION * len(value))
            if not inflating.eof:
                raise ValueError
            return inflated.decode()

    return jmespath.Options(custom_functions=Functions())


def _cost(node: _Node, levels: int, *, inside: bool) -> Cost:
    """The cost of a node of JMESPath's syntax tree.

    Args:
        node: with its `type`, `children` and `value`.
        levels: how many there may be.
        inside: whether it is evaluated for each element of a list, so that constants add up.

    Raises:
        ValueError: the expression cannot be meant, or is nested too deeply.
    """
    if not levels:
        raise ValueError("is nested too deeply")
    kind, value = node["type"], node.get("value")
    children = [child for child in node["children"] if isinstance(child, dict)]

    def cost(child: _Node, *, inside: bool = inside) -> Cost:
        return _cost(child, levels - 1, inside=inside)

    if kind == "literal":
        return Cost(growth=len(json.dumps(value)) if inside else 1)
    if kind in ("projection", "value_projection", "filter_projection"):
        base, body, *condition = children
        return _for_each(cost(base), [cost(child, inside=True) for child in (*condition, body)])
    if kind in ("subexpression", "index_expression", "pipe"):
        whole = Cost()
        for each in map(cost, children):
            whole = Cost(
                whole.growth * each.growth,
                whole.nodes + each.nodes,
                whole.passes + whole.growth * each.passes,
            )
        return whole
    if kind == "function_expression":
        return _cost_of_call(str(value), children, cost)
    parts = [cost(child) for child in children]
    growth = sum(part.growth for part in parts) or 1
    reads = kind in ("comparator", "flatten", "slice")
    return Cost(
        # A selection of several is a value of its own around what it selects.
        growth + (kind in ("multi_select_list", "multi_select_dict")),
        1 + sum(part.nodes for part in parts),
        growth * reads + sum(part.passes for part in parts),
    )


def _for_each(base: Cost, body: list[Cost]) -> Cost:
    """The cost of all of `body` for each element of `base`; the last of it makes the result."""
    visits = 1 + sum(part.nodes + part.passes for part in body)
    return Cost(base.growth * body[-1].growth, 1 + base.nodes, base.passes + base.growth * visits)


def _cost_of_call(name: str, arguments: list[_Node], cost: Callable[..., Cost]) -> Cost:
    _check_call(name, len(arguments))
    values = [cost(each) for each in arguments if each["type"] != "expref"]
    growth = sum(each.growth for each in values) or 1
    called = Cost(
        growth, 1 + sum(each.nodes for each in values), growth + sum(each.passes for each in values)
    )
    for each in arguments:
        if each["type"] == "expref":
            called = _for_each(called, [cost(each, inside=True)])
    if name == "join":
        separator = arguments[0]
        if separator["type"] != "literal":
            # It comes as often as there are elements, and both can be large.
            raise ValueError("joins by a separator that is not a literal")
        growth *= 1 + len(str(separator["value"]))
    growth *= {"to_string": _ESCAPING, "powertools_base64_gzip": INFLATION}.get(name, 1)
    return Cost(max(growth, called.growth), called.nodes, called.passes)


def _check_call(name: str, arguments: int) -> None:
    import jmespath  # noqa: PLC0415 - as above
    from jmespath.exceptions import ArityError, JMESPathError, UnknownFunctionError  # noqa: PLC0415

    try:
        jmespath.search(f"{name}({','.join('@' * arguments)})", None, _options())
    except UnknownFunctionError:
        raise ValueError("calls a function that does not exist") from None
    except ArityError:
        raise ValueError(f"calls {name} with the wrong number of arguments") from None
    except (JMESPathError, TypeError, AttributeError):
        pass  # None is of the wrong type, and that comes last
