"""Webhooks as other systems send them, genuine and forged, and declarations of such systems."""

import base64
import codecs
import gzip
import hmac
import json
import time
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import parse_qs, parse_qsl, urlencode

from conftest import sample
from hypothesis import strategies as st

from fuzz.deliveries import milliseconds
from fuzz.inputs import (
    CANARY,
    FLOWS,
    Json,
    anything,
    beside,
    commands,
    damaged,
    json_texts,
    mostly,
    whole_commands,
)
from fuzz.model import INVALID, SCHEMA, decoded
from local import signing

OWN_ROUTE = "conversation-ended"
KEY, FOREIGN_KEY = "one of the keys of a source", "one of somebody else's keys"
STANDARD_KEYS = {KEY: signing.KEY, FOREIGN_KEY: "whsec_" + base64.b64encode(FOREIGN_KEY.encode()).decode()}
HMAC = {
    "type": "hmac",
    "header": "X-Signature",
    "encoding": "base64",
    "format": "t={timestamp},v0={signature}",
    "signed": "{method}{url}{header:X-Id}{body}{timestamp}",
    "timestamp_format": "rfc3339",
}


def _source(verify: dict[str, Any], **fields: Any) -> dict[str, Any]:
    command = {field: field for field in SCHEMA["properties"]}
    return {"verify": verify, "keys": [KEY], "when": "status != 'open'", "command": command} | fields


SOURCES: dict[str, dict[str, Any]] = {
    "standard": _source({"type": "standard"}, keys=[signing.KEY], respond="sync"),
    "hmac": _source(HMAC),
    "token": _source({"type": "token"}, each="events", challenge={"body": "challenge"}),
    "basic": _source({"type": "basic"}, keys=[f"user:{KEY}"], each="events", respond="sync"),
    "twilio": _source({"type": "twilio"}, dry_run=True),
}
"""A source for each type of proof; two take several events at once, one is in shadow mode."""

CHALLENGE = {"challenge": "repeat this"}


class Webhook(NamedTuple):
    """A webhook, and what is wrong with it."""

    source: str
    body: bytes
    is_form: bool
    age: int  # seconds since it was signed
    sent_at: Json  # when the gateway received it, in milliseconds
    wrong: str  # why its proof is invalid; empty if it is genuine

    @property
    def content(self) -> Json:
        """What the body means; INVALID if it cannot be read."""
        if not self.is_form:
            return decoded(self.body.removeprefix(codecs.BOM_UTF8) if self.source != OWN_ROUTE else self.body)
        fields = parse_qs(self.body.decode(), keep_blank_values=True)
        return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}

    @property
    def payloads(self) -> dict[int, Json] | None:
        """The commands of its events by their places, without ignored ones; None if it has no events."""
        if self.content is INVALID:
            return None
        if self.source == OWN_ROUTE:
            return {0: self.content}
        declared, events = SOURCES[self.source], [self.content]
        if "each" in declared:
            events = self.content.get("events") if isinstance(self.content, dict) else None
            if not isinstance(events, list) or len(events) > 100:
                return None
        found = {place: one if isinstance(one, dict) else {} for place, one in enumerate(events)}
        # What is only for logs never costs an event.
        fields = SCHEMA["properties"].keys() - {"conversation_id", "reason"}
        shadow = {"dry_run": True} if declared.get("dry_run") else {}
        return {
            place: {field: one.get(field) for field in fields} | shadow
            for place, one in found.items()
            if one.get("status") != "open"
        }

    def event(self) -> Json:
        """What API Gateway makes of it."""
        event = sample("webhook" if self.source == OWN_ROUTE else "source-zendesk")
        event["requestContext"]["timeEpoch"] = self.sent_at
        source = {"source": "no-source", "name": f"../{self.source}"}.get(self.wrong, self.source)
        path, query = f"/webhooks/{source}", "a=%20b&a=c"
        if self.source == "twilio" and not self.is_form:
            query += f"&bodySHA256={sha256(self.body).hexdigest()}"
        headers = self._proof(f"https://{event['requestContext']['domainName']}{path}?{query}")
        match self.wrong:
            case "missing":
                del headers[max(headers)]
            case "longer":
                headers[max(headers)] += "x"
        json_type = "application/json" if self.source == OWN_ROUTE else "application/vnd.x+json"
        content_type = "application/x-www-form-urlencoded" if self.is_form else json_type
        return event | {
            "rawPath": path,
            "rawQueryString": query,
            "headers": headers | {"content-type": content_type, "x-note": CANARY},
            "pathParameters": {"source": source},
            "body": base64.b64encode(self.body + b" " * (self.wrong == "body")).decode(),
            "isBase64Encoded": True,
        }

    def _proof(self, url: str) -> dict[str, str]:
        """The sender's headers, not computed by the function's own code."""
        key = FOREIGN_KEY if self.wrong == "key" else KEY
        at = time.time() - (400 if self.wrong == "old" else self.age)
        match self.source:
            case "standard" | "conversation-ended":
                headers = signing.signed(self.body, key=STANDARD_KEYS[key], timestamp=str(int(at)))
                return headers | {"webhook-signature": f"v1, v2,AAAA é {headers['webhook-signature']}"}
            case "hmac":
                timestamp = datetime.fromtimestamp(at, UTC).isoformat()
                signature = _digest(key, f"POST{url}id-1".encode() + self.body + timestamp.encode())
                return {"x-id": "id-1", "x-signature": f"t={timestamp},v0={signature}"}
            case "basic":
                return {"Authorization": f"Basic {base64.b64encode(f'user:{key}'.encode()).decode()}"}
            case "twilio":
                # https://www.twilio.com/docs/usage/webhooks/webhooks-security
                fields = parse_qsl(self.body.decode(), keep_blank_values=True) if self.is_form else []
                signed = url + "".join(name + value for name, value in sorted(set(fields)))
                return {"x-twilio-signature": _digest(key, signed.encode(), "sha1")}
        return {"Authorization": f"Bearer {key}"}


def _digest(key: str, content: bytes, algorithm: str = "sha256") -> str:
    return base64.b64encode(hmac.digest(key.encode(), content, algorithm)).decode()


_events = st.builds(
    lambda event, more: event | more,
    mostly(whole_commands, damaged(commands)),
    st.sampled_from([{}, {}, {"status": "open"}, {"status": CANARY, "conversation_id": 7, "reason": ""}]),
)


@st.composite
def _webhooks(draw: st.DrawFn) -> Webhook:
    source = draw(st.sampled_from([OWN_ROUTE, *SOURCES]))
    is_form = source != OWN_ROUTE and draw(st.integers(0, 2)) == 0
    if is_form:
        fields = [
            (name.encode(errors="replace").decode(), str(value).encode(errors="replace").decode())
            for name, value in (draw(_events) | {"note": CANARY}).items()
        ]
        body = urlencode(fields + draw(st.sampled_from([[], [], fields[:1]]))).encode()
        body += draw(st.sampled_from([b"", b"", b"&"]))
    else:
        bodies: Any = _events
        if "each" in SOURCES.get(source, ()):
            several = st.lists(_events, max_size=3) | st.just([{}] * 101)
            bodies = st.fixed_dictionaries({"events": several}) | st.just(CHALLENGE) | anything
        body = draw(mostly(bodies.map(json.dumps), json_texts(bodies))).encode(errors="surrogatepass")
        body = draw(st.sampled_from([b"", b"", codecs.BOM_UTF8])) + body
    wrong = ["missing", "longer", "key"] + (["source", "name"] if source != OWN_ROUTE else [])
    if source in {OWN_ROUTE, "standard", "hmac"}:
        wrong += ["old", "body"]
    is_genuine = draw(st.integers(0, 3))
    age, sent_at = draw(st.integers(-280, 280)), draw(milliseconds)
    return Webhook(source, body, is_form, age, sent_at, "" if is_genuine else draw(st.sampled_from(wrong)))


webhooks = _webhooks()

_FORMS = (
    *("%s | %s", "[%s, %s][]", "{a: %s, b: %s}", "%s || %s", "(%s)[?%s]", "(%s) < (%s)", "!(%s) | %s"),
    *("map(&%s, %s)", "sort_by(%s, &%s)", "join(%s, %s)", "contains(%s, %s)", "[to_number(%s), sum(%s)]"),
    *("split(%s, %s)", "e164(%s, %s)", "replace(%s, %s, 'x')", "[from_unix(%s), powertools_json(%s)]"),
    *("powertools_base64_gzip(%s) | %s", "no_such_function(%s, %s)", "(%s)[::-1] | %s", "&%s | %s"),
)
_leaves = st.sampled_from(["a", "b", "@", '"é"', "'x'", f"'{CANARY}'", "`[1, [2]]`", "a[*]", "*", "[]"])
_pairs = st.recursive(
    _leaves,
    lambda inner: st.builds(str.__mod__, st.sampled_from(_FORMS), st.tuples(inner, inner)),
    max_leaves=4,
)
_expressions = mostly(_pairs, beside(["a.b", "'x'", "a[?b]"]))
_declarations = st.fixed_dictionaries(
    {
        "keys": st.just([KEY]),
        "verify": mostly(st.just({"type": "token"}), damaged(st.just(HMAC))),
        "command": st.fixed_dictionaries(
            {"flow_sid": st.just(f"'{FLOWS[0]}'"), "contact": _expressions},
            optional={"conversation_id": _expressions, "occurred_at": _expressions},
        ),
    },
    optional={
        "preset": st.sampled_from(["zendesk", "salesforce"]),
        "challenge": st.sampled_from([{"body": "length(@)"}, {"header": "x-challenge"}]),
        "dry_run": st.booleans(),
        "each": mostly(st.just("@"), _expressions),
        "when": _expressions,
    },
)
_others = st.dictionaries(
    st.sampled_from([OWN_ROUTE, "a" * 33, f"{CANARY}.", ""]), damaged(_declarations), max_size=1
)
secrets = st.fixed_dictionaries(
    {"sources": st.builds(lambda others, crm: others | {"crm": crm}, _others, _declarations)},
    optional={"keys": st.lists(st.sampled_from([signing.KEY, CANARY]), max_size=2) | anything},
)
"""Webhook secrets; the source `crm` is mostly valid, and takes KEY as a bearer token."""

bodies = anything | st.sampled_from(
    [
        [{"a": 1, "b": CANARY}] * 3_000,
        {"a": base64.b64encode(gzip.compress(bytes(10**7))).decode(), "b": json.dumps([[CANARY]] * 999)},
        {"a": '"\\' * 30_000, "b": [CANARY] * 99},
    ]
)
"""Bodies of webhooks for them, some of them large."""
