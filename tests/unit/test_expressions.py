"""JMESPath in declarations: what it finds, and which expressions are refused when a declaration is read."""

import base64
import gzip
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from end_conversation.webhooks.expressions import MAX_INFLATED, MAX_LENGTH, EvaluationError, Expression

SRC = Path(__file__).parents[2] / "src"
NO_COUNTRY_CODE = "has no known country code (national numbers need a region)"
SECRET = "canary7e57c0de"


def find(text: str, payload: object) -> Any:
    return Expression.compile(text).search(payload)


@pytest.mark.parametrize(
    ("text", "payload", "found"),
    [
        ("a.b[0]", {"a": {"b": [1]}}, 1),
        ("a.b", {}, None),
        ("events[?type == 'closed'].id", {"events": [{"type": "closed", "id": 1}, {"type": "open"}]}, [1]),
        ("join('', ['whatsapp:', phone])", {"phone": "+15551234567"}, "whatsapp:+15551234567"),
        ("powertools_json(a).b", {"a": '{"b": 1}'}, 1),
        ("powertools_base64(a)", {"a": "w6k="}, "é"),
        ("powertools_base64_gzip(a)", {"a": base64.b64encode(gzip.compress(b"abc")).decode()}, "abc"),
        ("from_unix(@)", 1772444467, "2026-03-02T09:41:07+00:00"),
        ("from_unix(@)", "1772444467", "2026-03-02T09:41:07+00:00"),
        ("from_unix(@)", 1772444467.5, "2026-03-02T09:41:07.500000+00:00"),
        ("from_unix_ms(@)", 1772444467934, "2026-03-02T09:41:07.934000+00:00"),
        ("from_unix_ms(@)", "1772444467934", "2026-03-02T09:41:07.934000+00:00"),
        ("[from_unix(a), from_unix_ms(a), e164(a), e164(a, a)]", {}, [None] * 4),
    ],
)
def test_found(text: str, payload: object, found: object) -> None:
    """As JMESPath specifies, with Powertools' functions and our own; null stays null."""
    assert find(text, payload) == found


JEP_14 = {
    "abab": "aabaaabaaaab",
    "split": "avg|-|min|-|max|-|mean|-|mode|-|median",
    "spaces": "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000",
}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("replace(abab, 'aa', '-', `0`)", "aabaaabaaaab"),
        ("replace(abab, 'aa', '-', `1`)", "-baaabaaaab"),
        ("replace(abab, 'aa', '-', `3`)", "-b-ab-aab"),
        ("replace(abab, 'aa', '-')", "-b-ab--b"),
        ("trim(' subject string ')", "subject string"),
        ("trim(' subject string ', '')", "subject string"),
        ("trim(' subject string ', 's')", " subject string "),
        ("trim(' subject string ', 'su ')", "bject string"),
        ("trim(spaces)", ""),
        ("split('/', '/')", ["", ""]),
        ("split('', '')", []),
        ("split('all chars', '')", ["a", "l", "l", " ", "c", "h", "a", "r", "s"]),
        ("split('all chars', '', `3`)", ["a", "l", "l", " chars"]),
        ("split('all', '', `9`)", ["a", "l", "l"]),
        ("split(split, '|-|')", ["avg", "min", "max", "mean", "mode", "median"]),
        ("split(split, '|-|', `1`)", ["avg", "min|-|max|-|mean|-|mode|-|median"]),
        ("split(split, '|-|', `0`)", ["avg|-|min|-|max|-|mean|-|mode|-|median"]),
        ("split(abab, 'x')", ["aabaaabaaaab"]),
    ],
)
def test_strings_are_those_of_jmespath_community(text: str, found: object) -> None:
    """Its compliance cases: https://github.com/jmespath-community/jmespath.test/blob/main/tests/functions_strings.json."""
    assert find(text, JEP_14) == found


@pytest.mark.parametrize(
    "text",
    [
        "replace(abab, 'aa', '-', `0.333333`)",
        "replace(abab, 'aa', '-', `-1`)",
        "replace(abab, 'aa', '-', 'x')",
        "replace(abab, 'aa', '-', `true`)",
        "replace(missing, 'aa', '-')",
        "split('/', '/', `3.7`)",
        "split('/', '/', `-2`)",
        "trim('x', `7`)",
        "trim('x', `null`)",
        "trim(missing)",
    ],
)
def test_string_functions_check_their_arguments(text: str) -> None:
    """By JMESPath Community's rules."""
    with pytest.raises(EvaluationError):
        find(text, JEP_14)


@pytest.mark.parametrize(
    ("phone", "region", "found"),
    [
        # As they are typed, copied and exported.
        ("+15005550161", None, "+15005550161"),
        (" +1 (500) 555-01.61/", None, "+15005550161"),
        ("+44 (0)20 7946 0958", None, "+442079460958"),
        ("(+44)(0)20 7946 0958", None, "+442079460958"),
        ("\u202a+44\xa07700\u202f900958\u202c", None, "+447700900958"),
        ("\ufeff\u200b+1\u2060500\u200e555\t0161\r\n", None, "+15005550161"),
        ("+1\xad500\u2013555\u20140161", None, "+15005550161"),
        ("+1 500\u2212555\ufe630161", None, "+15005550161"),
        ("\uff0b\uff11\uff08\uff15\uff10\uff10\uff09555\u30fc\uff10\uff11\uff16\uff11", None, "+15005550161"),
        ("+\u0664\u0664\u0662\u0660\u0667\u0669\u0664\u0666\u0660\u0669\u0665\u0668", None, "+442079460958"),
        ("'+15005550161", None, "+15005550161"),
        # As emoji: keycaps are digits with U+FE0F and U+20E3; and with control characters of a terminal.
        ("+1\ufe0f\u20e3 500 555 01\ufe0f\u20e361", None, "+15005550161"),
        ("\x1b+1500555\x000161", None, "+15005550161"),
        # RFC 3966.
        ("tel:+1-500-555-0161", None, "+15005550161"),
        ("tel:%2B1%20500%20555%200161", None, "+15005550161"),
        ("TEL://+15005550161", None, "+15005550161"),
        ("tel:+15005550161;isub=12;npdi", None, "+15005550161"),
        ("tel:555-0161;phone-context=+1-500", None, "+15005550161"),
        # 00, whatever the region dials.
        ("0044 20 7946 0958", None, "+442079460958"),
        ("(00)44 20 7946 0958", "US", "+442079460958"),
        ("+0044 20 7946 0958", None, "+442079460958"),
        ("\u0660\u0660\u0664\u0664 20 7946 0958", None, "+442079460958"),
        *(("0044 20 7946 0958", region, "+442079460958") for region in ("ID", "JP", "KR", "NG", "RU")),
        ("001 44 20 7946 0958", "KR", "+442079460958"),
        ("011 44 20 7946 0958", "US", "+442079460958"),
        # In national form.
        ("(415) 555-0106", "US", "+14155550106"),
        ("1 415 555 0106", "us", "+14155550106"),
        (4155550106, "US", "+14155550106"),
        (4155550106.0, "US", "+14155550106"),
        ("020 7946 0958", "GB", "+442079460958"),
        ("442079460958", "GB", "+442079460958"),
        ("011 15 1234-5678", "AR", "+5491112345678"),
        ("+44 20 7946 0958", "US", "+442079460958"),
        # Nothing.
        ("", "GB", None),
        (" \u200b\ufeff ", None, None),
        (None, "XX", None),
    ],
)
def test_phone_numbers_become_e164(phone: object, region: str | None, found: str | None) -> None:
    """Whatever people and their systems put around the digits."""
    assert find("e164(a, b)", {"a": phone, "b": region}) == found
    if region is None:
        assert find("e164(a)", {"a": phone}) == found


@pytest.mark.parametrize(
    ("phone", "region", "reason"),
    [
        ("(555) 123-4567", None, NO_COUNTRY_CODE),
        ("15005550161", None, NO_COUNTRY_CODE),
        ("+999 500 555 0161", None, NO_COUNTRY_CODE),
        ("tel:555-0161;phone-context=example.com", None, NO_COUNTRY_CODE),
        ("+1 555 0161", None, "lacks its area code"),
        ("555-0161", "US", "lacks its area code"),
        ("+1 50", None, "is too short"),
        ("+1 500 555 016161616", None, "is too long"),
        ("+15005550161 +15005550162", None, "is not valid"),
        ("+15005550161 15005550162", None, "is too long"),
        ("()-", None, "is not valid"),
        ("+1 500 555 0161 x12", None, "has letters or an extension"),
        ("+1 500 555 0161,12#", None, "has letters or an extension"),
        ("+49 30123~4567", None, "has letters or an extension"),
        ("tel:+15005550161;ext=12", None, "has letters or an extension"),
        ("1-800-FLOWERS", "US", "has letters or an extension"),
        ("whatsapp:+15005550161", None, "has letters or an extension"),
        (f"{SECRET} +15005550161", None, "has letters or an extension"),
        ("1" * 999, None, "is too long"),
        (1.5, None, "is not valid"),
    ],
)
def test_an_invalid_phone_number_is_an_error(phone: object, region: str | None, reason: str) -> None:
    """With its reason: a wrong number would end nobody's conversation."""
    with pytest.raises(EvaluationError, match=f"^cannot be evaluated: the phone number {re.escape(reason)}$"):
        find("e164(a, b)", {"a": phone, "b": region})


def test_a_region_must_exist() -> None:
    """Even if the number does not need it: the next one may."""
    with pytest.raises(EvaluationError, match="the region must be a two-letter code of ISO 3166"):
        find("e164(a, 'UK')", {"a": "+442079460958"})


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
        ("[::0]", [SECRET]),
        ("to_string(@)", [10**5000]),
        ("powertools_json(@)", SECRET),
        ("powertools_json(@)", "[" * 100_000),
        ("powertools_base64(@)", SECRET + "!"),
        ("powertools_base64(@)", "/w=="),
        ("powertools_base64_gzip(@)", SECRET),
        ("powertools_base64_gzip(@)", base64.b64encode(gzip.compress(b"abc", mtime=0)[:-9]).decode()),
        ("from_unix(@)", SECRET),
        ("from_unix(@)", 1772444467934),
        ("from_unix(@)", "nan"),
        ("e164(@)", [SECRET]),
        ("e164(a, b)", {"a": SECRET, "b": 7}),
        ("trim(@, @)", 7),
    ],
)
def test_an_evaluation_error_does_not_quote_the_payload(text: str, payload: object) -> None:
    """Neither in its message nor in its cause, whatever JMESPath and its functions raise."""
    reason = r"^cannot be evaluated(: \w+ does not accept (null|number|string|array))?$"
    with pytest.raises(EvaluationError, match=reason) as refusal:
        find(text, payload)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not valid JMESPath"),
        ("a.", "is not valid JMESPath (character 3)"),
        ("'a", "is not valid JMESPath (character 1)"),
        ("phone(@)", "calls a function that does not exist"),
        ("to_string(a, b)", "calls to_string with the wrong number of arguments"),
        ("not_null()", "calls not_null with the wrong number of arguments"),
        ("e164()", "calls e164 with the wrong number of arguments"),
        ("e164(a, 'GB', 'US')", "calls e164 with the wrong number of arguments"),
        ("replace('a', 'b')", "calls replace with the wrong number of arguments"),
        ("replace('a', 'b', 'c', `1`, `2`)", "calls replace with the wrong number of arguments"),
        ("split('a', 'b', `1`, `2`)", "calls split with the wrong number of arguments"),
        ("trim('a', 'b', 'c')", "calls trim with the wrong number of arguments"),
        ("a" * (MAX_LENGTH + 1), f"is longer than {MAX_LENGTH} characters"),
        ("!" * 900 + "a", "is nested too deeply"),
        ("(" * 500 + "a" + ")" * 500, "is nested too deeply"),
    ],
)
def test_an_invalid_expression_is_refused(text: str, complaint: str) -> None:
    """When the declaration is read, not by the first event; the expression is not quoted."""
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}$") as refusal:
        Expression.compile(text)
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def test_decompression_is_limited() -> None:
    """To a megabyte."""
    bomb = base64.b64encode(gzip.compress(bytes(MAX_INFLATED + 1))).decode()
    with pytest.raises(EvaluationError):
        find("powertools_base64_gzip(@)", bomb)
    largest = base64.b64encode(gzip.compress(bytes(MAX_INFLATED))).decode()
    assert len(find("powertools_base64_gzip(@)", largest)) == MAX_INFLATED


def test_nothing_is_imported_before_it_is_needed() -> None:
    """Neither webhooks by the handler nor libphonenumber by a declaration: cold starts take long enough."""
    script = """if True:
        import sys
        import end_conversation.app
        print("end_conversation.webhooks" in sys.modules, "phonenumbers" in sys.modules)
        before = set(sys.modules)
        from end_conversation.webhooks.expressions import Expression
        expression = Expression.compile("e164(phone, 'GB')")
        expression.search({"phone": ""})
        print({name for name in set(sys.modules) - before if not name.startswith("end_conversation")})
        expression.search({"phone": "020 7946 0958"})
        print("phonenumbers" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", script], cwd=SRC, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["False False", "set()", "True", ""]
