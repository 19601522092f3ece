"""JMESPath in declarations: what it finds, and that no expression can cost more than it may."""

import base64
import contextlib
import gzip
import inspect
import json
import subprocess
import sys
import time
from typing import Any

import jmespath.ast
import pytest
from hypothesis import given
from hypothesis import strategies as st

from end_conversation.triggers import expressions
from end_conversation.triggers.expressions import (
    DEEPEST,
    INFLATION,
    LONGEST,
    MOST_PASSES,
    EvaluationError,
    Expression,
    passes,
)


def find(text: str, payload: object) -> Any:
    return Expression.compile(text).search(payload)


@pytest.mark.parametrize(
    ("text", "payload", "found"),
    [
        ("'FW1'", {}, "FW1"),
        ("a.b[0]", {"a": {"b": [1]}}, 1),
        ("a.b", {}, None),
        ("a == 'x' && b", {"a": "x", "b": 2}, 2),
        ("events[?type == 'closed'].id", {"events": [{"type": "closed", "id": 1}, {"type": "open"}]}, [1]),
        ("join('', ['whatsapp:', phone])", {"phone": "+15551234567"}, "whatsapp:+15551234567"),
        ("powertools_json(a).b", {"a": '{"b": 1}'}, 1),
        ("powertools_base64(a)", {"a": "w6k="}, "é"),
        ("powertools_base64_gzip(a)", {"a": base64.b64encode(gzip.compress(b"abc")).decode()}, "abc"),
        ("map(&to_string(@), @)", [1, "a"], ["1", "a"]),
        ("@.{a: x, b: y}", {"x": 1}, {"a": 1, "b": None}),
        ("[1:]", [1, 2], [2]),
    ],
)
def test_found(text: str, payload: object, found: object) -> None:
    """As JMESPath says, with Powertools' functions."""
    assert find(text, payload) == found


@pytest.mark.parametrize(
    ("text", "payload", "found"),
    [
        ("from_unix(@)", 1772444467, "2026-03-02T09:41:07+00:00"),
        ("from_unix(@)", "1772444467", "2026-03-02T09:41:07+00:00"),
        ("from_unix(@)", 1772444467.5, "2026-03-02T09:41:07.500000+00:00"),
        ("from_unix_ms(@)", 1772444467934, "2026-03-02T09:41:07.934000+00:00"),
        ("from_unix_ms(@)", "1772444467934", "2026-03-02T09:41:07.934000+00:00"),
        ("from_unix(@)", None, None),
        ("from_unix_ms(@)", None, None),
        ("e164(@)", "+15551234567", "+15551234567"),
        ("e164(@)", " +1 (555) 123-45.67/", "+15551234567"),
        ("e164(@)", "", None),
        ("e164(@)", " ", None),
        ("e164(@)", None, None),
    ],
)
def test_our_own_functions(text: str, payload: object, found: object) -> None:
    """Times as commands want them, and phone numbers as Studio has them; nothing stays nothing."""
    assert find(text, payload) == found


SECRET = "canary7e57c0de"


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        ("join('', ['a', @])", None),
        ("join('', @)", [SECRET, 1]),
        ("abs(@)", SECRET),
        ("a < b", {"a": SECRET, "b": 1}),
        ("contains(a, b)", {"a": SECRET, "b": 1}),
        ("avg(@)", [10**400, 1]),
        ("ceil(@)", float("inf")),
        ("sort_by(@, &a)", [{"a": 1}, {"a": SECRET}]),
        ("[::0]", [SECRET]),
        ("to_string(@)", [10**5000]),
        ("powertools_json(@)", SECRET),
        ("powertools_json(@)", ""),
        ("powertools_json(@)", "[" * 100_000),
        ("powertools_base64(@)", SECRET + "!"),
        ("powertools_base64(@)", "/w=="),
        ("powertools_base64_gzip(@)", SECRET),
        ("powertools_base64_gzip(@)", base64.b64encode(gzip.compress(b"abc", mtime=0)[:-9]).decode()),
        ("from_unix(@)", SECRET),
        ("from_unix(@)", 1772444467934),
        ("from_unix(@)", "nan"),
        ("from_unix(@)", float("inf")),
        ("e164(@)", "(555) 123-4567"),
        ("e164(@)", "+123456"),
        ("e164(@)", "+1555123456789012"),
        ("e164(@)", SECRET),
    ],
)
def test_what_cannot_be_evaluated_says_nothing_of_the_payload(text: str, payload: object) -> None:
    """One kind of error, whatever JMESPath and its functions raise; nothing of it hangs on it."""
    with pytest.raises(EvaluationError, match=r"^cannot be evaluated$") as refusal:
        find(text, payload)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not valid JMESPath"),
        ("a.", "is not valid JMESPath (character 3)"),
        ("a b", "is not valid JMESPath (character 3)"),
        ("'a", "is not valid JMESPath (character 1)"),
        ("&a", "has an expression reference where none is allowed"),
        ("[&a]", "has an expression reference where none is allowed"),
        ("not_null(&a, b)", "has an expression reference where none is allowed"),
        ("phone(@)", "calls a function that does not exist"),
        ("a[*].phone(@)", "calls a function that does not exist"),
        ("to_string(a, b)", "calls to_string with the wrong number of arguments"),
        ("not_null()", "calls not_null with the wrong number of arguments"),
        ("join(a, b)", "joins with a separator that is not a literal"),
        ("a" * (LONGEST + 1), f"is longer than {LONGEST} characters"),
        ("!" * 900 + "a", "is nested too deeply"),
        ("(" * 500 + "a" + ")" * 500, "is nested too deeply"),
        ("||".join("a" * (DEEPEST + 1)), "is nested too deeply"),
    ],
)
def test_refused(text: str, complaint: str) -> None:
    """When the declaration is read, and not with the first payload; the expression is not repeated."""
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the text is compared below
        Expression.compile(text)
    assert str(refusal.value).startswith(complaint)
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@pytest.mark.parametrize(
    "text",
    [
        "|".join(["[@,@][]"] * 20),
        "|".join(["to_string([@])"] * 20),
        "|".join(["join('',[@,@])"] * 20),
        "|".join(["{a:@,b:@}.*[]"] * 9),
        "|".join(["values({a:@,b:@})[]"] * 9),
        f"join('{'x' * 900}', [*].a) | join('', [@]) | to_string(@) | join('{'x' * 50}', [@])",
        f"map(&'{'x' * 500}', @) | join('', @)",
        "map(&to_string([@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@]), @)",
        "[*].[" + ",".join(["@"] * 80) + "]",
        "[" + ",".join(["[*].a"] * 60) + "]",
        "powertools_base64_gzip(powertools_base64_gzip(a)) | to_string(@)",
    ],
)
def test_what_could_grow_is_measured(text: str) -> None:
    """Doubling again and again, constants for each element, and visits to each element add up."""
    assert passes(None, [Expression.compile(text)]) > MOST_PASSES


@pytest.mark.parametrize(
    "text",
    [
        "[?a==`1`&&b==`2`&&c==`3`].a | [0]",
        "[*].[@,@,@,@,@,@,@,@,@,@]",
        "sort_by(@, &a)[-1]",
        "[][][][][][][]",
        "map(&to_string(@), @)",
        "map(&from_unix(a), @)",
        "[*].join('', ['a', to_string(@)])",
        "[@,@][]|[@,@][]",
    ],
)
def test_what_is_allowed_is_done_in_time(text: str) -> None:
    """A pass over a megabyte of the smallest elements takes a fraction of a second."""
    expression = Expression.compile(text)
    assert expression.cost.passes <= MOST_PASSES
    began = time.perf_counter()
    for payload in ([{"a": 1}] * (2**20 // 9), [0] * (2**20 // 3)):
        try:
            expression.search(payload)
        except EvaluationError:
            continue
    assert time.perf_counter() - began < expression.cost.passes


def test_a_bomb_does_not_go_off() -> None:
    """Of a few bytes, `powertools_base64_gzip` makes a few more, and not a gigabyte."""
    bomb = base64.b64encode(gzip.compress(bytes(10_000_000))).decode()
    with pytest.raises(EvaluationError):
        find("powertools_base64_gzip(@)", bomb)
    text = base64.b64encode(bytes(range(256)) * 4).decode()
    assert find("powertools_base64_gzip(@)", base64.b64encode(gzip.compress(text.encode())).decode()) == text
    assert len(text) < INFLATION * 1000


def test_each_and_the_rest_are_one_chain() -> None:
    """What `each` multiplies, every expression of the command goes through."""
    each, field = Expression.compile("[@,@,@][]"), Expression.compile("to_string(@)")
    assert passes(each, [field, field]) == each.cost.passes + each.cost.growth * 2 * field.cost.passes
    assert passes(None, [field, field]) == 2 * field.cost.passes


def test_every_kind_of_node_is_measured() -> None:
    """A version of JMESPath with a new one would not be known."""
    source = inspect.getsource(expressions)
    kinds = {
        node["type"]
        for name, make in inspect.getmembers(jmespath.ast, inspect.isfunction)
        if isinstance(node := make(*[None] * len(inspect.signature(make).parameters)), dict)
    }
    assert len(kinds) > 20
    assert {kind for kind in kinds if f'"{kind}"' not in source} == set()


def test_powertools_logger_brings_all_that_is_imported() -> None:
    """Nobody starts later for the sake of sources."""
    module = "aws_lambda_powertools.utilities.jmespath_utils"
    script = f"import aws_lambda_powertools, sys; print('{module}' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
pieces = st.sampled_from(
    [
        "a",
        "b",
        ".",
        "[",
        "]",
        "[*]",
        "[]",
        "[?",
        "(",
        ")",
        ",",
        "|",
        "||",
        "&&",
        "!",
        "&",
        "@",
        "'x'",
        "`1`",
        "==",
        "<",
        "to_string(",
        "join('', ",
        "powertools_json(",
        "sort_by(",
        "from_unix(",
        "e164(",
        "{",
        "}",
        ":",
        "*",
        "\ud800",
    ]
)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # JMESPath's, of quotes that are not JSON
@given(st.text(max_size=20) | st.lists(pieces, max_size=12).map("".join), json_values)
def test_any_expression_is_refused_or_evaluated(text: str, payload: object) -> None:
    """With no other errors than the two, and nothing that JSON has no word for."""
    with contextlib.suppress(ValueError):
        json.dumps(find(text, payload))
