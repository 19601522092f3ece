"""JMESPath in declarations: what it finds, and what is refused when a declaration is read."""

import base64
import contextlib
import gzip
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from end_conversation.webhooks.expressions import MAX_INFLATED, MAX_LENGTH, EvaluationError, Expression


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
        ("phone(@)", "calls a function that does not exist"),
        ("to_string(a, b)", "calls to_string with the wrong number of arguments"),
        ("not_null()", "calls not_null with the wrong number of arguments"),
        ("a" * (MAX_LENGTH + 1), f"is longer than {MAX_LENGTH} characters"),
        ("!" * 900 + "a", "is nested too deeply"),
        ("(" * 500 + "a" + ")" * 500, "is nested too deeply"),
    ],
)
def test_refused(text: str, complaint: str) -> None:
    """When the declaration is read, and not with the first payload; the expression is not repeated."""
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the text is compared below
        Expression.compile(text)
    assert str(refusal.value).startswith(complaint)
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def test_a_bomb_does_not_go_off() -> None:
    """Of a few bytes, `powertools_base64_gzip` makes a megabyte at most."""
    bomb = base64.b64encode(gzip.compress(bytes(MAX_INFLATED + 1))).decode()
    with pytest.raises(EvaluationError):
        find("powertools_base64_gzip(@)", bomb)
    largest = base64.b64encode(gzip.compress(bytes(MAX_INFLATED))).decode()
    assert len(find("powertools_base64_gzip(@)", largest)) == MAX_INFLATED


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
