"""Sources: verify other systems' webhooks and make commands from their events.

They are declared in the webhook secret, next to our own signing keys. A declaration is validated and compiled
when the secret is read, so requests only evaluate it.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from end_conversation.command import SCHEMA, parse_json
from end_conversation.errors import FieldError, InvalidRequest, UnsupportedMediaType
from end_conversation.http_request import SOURCE_NAME
from end_conversation.schema import compiled, is_unicode
from end_conversation.webhooks.expressions import EvaluationError, Expression
from end_conversation.webhooks.proofs import Keys, Proof, check, form_fields, parse_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from end_conversation.http_request import HttpRequest

MAX_EVENTS = 100
"""Events that one webhook may carry."""

MAX_BODY = 2**20
"""Maximum bytes of a webhook's body."""

_RESERVED = "conversation-ended"
_FOR_LOGS = ("conversation_id", "reason")
_DEFAULTS: dict[str, dict[str, Any]] = {"token": {"header": "authorization", "prefix": "Bearer "}}

Declaration = dict[str, Any]
Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """A valid declaration.

    Attributes:
        name: the source's name in its URL.
        proof: how its requests are verified.
        keys: any of them may match.
        command: an expression per field of the command.
        each: finds the events in a body; None: the body is the one event.
        when: which events end a conversation; None: all.
        respond: `async` when the commands are queued, `sync` when they have been carried out.
        challenge: the name of a header, or an expression for the body, with the value to send back.
        dry_run: whether its commands end nothing.
    """

    name: str
    proof: Proof
    keys: Keys = field(repr=False)
    command: Mapping[str, Expression]
    each: Expression | None = None
    when: Expression | None = None
    respond: str = "async"
    challenge: str | Expression | None = None
    dry_run: bool = False

    def verify(self, request: HttpRequest, now: float, base_url: str | None = None) -> None:
        """Reject a request that is not from the source.

        Args:
            request: the request.
            now: seconds since 1970.
            base_url: replaces `https://`, host and stage in the URL, if the sender calls another one.

        Raises:
            InvalidSignature: it has no valid proof.
        """
        check(self.proof, self.keys, request, now, base_url)

    def challenge_in(self, request: HttpRequest) -> str | None:
        """The challenge to send back, which shows that the endpoint is ours; None for any other request."""
        match self.challenge:
            case None:
                return None
            case str(header):
                found: object = "".join(request.header(header)[:1])
            case expression:
                try:
                    found = expression.search(_decoded(request))
                except (InvalidRequest, UnsupportedMediaType, EvaluationError):
                    return None
        return found if isinstance(found, str) and found else None

    def events(self, request: HttpRequest) -> list[object]:
        """The events in a request.

        Raises:
            UnsupportedMediaType: the content type is neither JSON nor a form.
            InvalidRequest: there is no list of events in the body; the message quotes nothing of it.
        """
        body = _decoded(request)
        try:
            events = [body] if self.each is None else self.each.search(body)
        except EvaluationError as error:
            raise InvalidRequest.of_fields(FieldError("each", str(error))) from None
        if not isinstance(events, list) or len(events) > MAX_EVENTS:
            raise InvalidRequest.of_fields(
                FieldError("each", f"must be a list of at most {MAX_EVENTS} events")
            )
        return events

    def payload(self, event: object) -> Payload | None:
        """The command fields of an event, for `Command.parse`; None if the event is to be ignored.

        Raises:
            InvalidRequest: names the fields whose expressions do not fit the event; quotes nothing of it.
        """
        try:
            if self.when is not None and _is_nothing(self.when.search(event)):
                return None
        except EvaluationError as error:
            raise InvalidRequest.of_fields(FieldError("when", str(error))) from None
        payload: Payload = {"dry_run": True} if self.dry_run else {}
        errors = []
        for name, expression in self.command.items():
            try:
                found = expression.search(event)
            except EvaluationError as error:
                found = None
                if name not in _FOR_LOGS:
                    errors.append(FieldError(name, str(error)))
            payload.setdefault(name, _for_logs(name, found) if name in _FOR_LOGS else found)
        if errors:
            raise InvalidRequest.of_fields(*errors)
        return payload


def _for_logs(name: str, found: object) -> str | None:
    """A field for logs only: an invalid one is left out instead of rejecting the event."""
    text = json.dumps(found) if _is_number(found) else found
    longest = SCHEMA["properties"][name]["maxLength"]
    return text if isinstance(text, str) and 0 < len(text) <= longest and is_unicode(text) else None


def _is_number(value: object) -> bool:
    # Not 1e999, which becomes infinity and cannot be JSON again.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """The content of the webhook secret. Equal if the texts are equivalent.

    Attributes:
        keys: the signing keys of our own route.
        sources: by name.
        invalid: why declarations are invalid, by name, or by position if the name is invalid.
        unreadable_keys: positions of signing keys that cannot be decoded.
    """

    keys: Keys = field(repr=False)
    sources: Mapping[str, Source]
    invalid: Mapping[str, str]
    unreadable_keys: tuple[int, ...] = ()

    def authenticate(self, request: HttpRequest, now: float, base_url: str | None = None) -> Source:
        """The source that sent a request.

        Raises:
            InvalidSignature: no valid proof, or an unknown source; both take equally long.
        """
        source = self.sources.get(request.source or "", _UNKNOWN_SOURCE)
        source.verify(request, now, base_url)
        return source


_UNKNOWN_SOURCE = Source("", Proof("none"), (), {})
"""Stands in for unknown sources, so that they are rejected in the same way and time."""


def parse_webhook_secret(text: str) -> WebhookSecret:
    """Read `{"keys": ["whsec_…", …], "sources": {"name": {…}, …}}`; either may be missing.

    Invalid keys and declarations are left out and reported; the others work.

    Raises:
        ValueError: it has neither keys nor sources; the message quotes nothing of it.
    """
    try:
        secret = json.loads(text)
    except (ValueError, RecursionError):
        # Without its cause, which contains the whole text.
        raise ValueError("the webhook secret is not JSON") from None
    secret = secret if isinstance(secret, dict) else {}
    keys = [_signing_key(entry) for entry in _as(list, secret.get("keys"))]
    declarations: dict[str, object] = _as(dict, secret.get("sources"))
    if not any(keys) and not declarations:
        raise ValueError("the webhook secret has neither keys nor sources")
    sources, invalid = {}, {}
    for position, (name, declaration) in enumerate(declarations.items()):
        is_name = SOURCE_NAME.fullmatch(name) is not None
        try:
            if not is_name:
                raise ValueError(f"its name must match {SOURCE_NAME.pattern}")  # noqa: TRY301 - one place handles all reasons
            sources[name] = parse_source(name, declaration)
        except ValueError as error:
            # An invalid name may be anything; don't repeat it.
            invalid[name if is_name else f"#{position}"] = str(error)
    if secret.get("sources") and not declarations:
        invalid["sources"] = "must be an object"
    return WebhookSecret(
        tuple(filter(None, keys)),
        sources,
        invalid,
        tuple(position for position, key in enumerate(keys) if key is None),
    )


def parse_source(name: str, declaration: object) -> Source:
    """Validate and compile one declaration.

    Raises:
        ValueError: all errors by field; quotes no values.
    """
    if name == _RESERVED:
        raise ValueError("its name is reserved")
    if not isinstance(declaration, dict):
        raise ValueError("must be an object")  # noqa: TRY004 - callers expect one kind of error
    given = _checked("", "source", _with_preset(declaration))
    command = _checked("command.", "command", given["command"])
    if command["execution_sid"] is None and command["contact"] is None:
        raise ValueError("command must have execution_sid or contact")
    proof = _proof(given["verify"] or {})
    expressions = {
        field: _expression(field, text)
        for field, text in (
            ("each", given["each"]),
            ("when", given["when"]),
            *((f"command.{field}", text) for field, text in command.items()),
        )
        if text is not None
    }
    each, when = expressions.pop("each", None), expressions.pop("when", None)
    return Source(
        name,
        proof,
        tuple(_key(proof, position, key) for position, key in enumerate(given["keys"])),
        {field.removeprefix("command."): expression for field, expression in expressions.items()},
        each,
        when,
        given["respond"] or "async",
        _challenge(given["challenge"] or {}),
        bool(given["dry_run"]),
    )


@cache
def presets() -> dict[str, Declaration]:
    """The declarations that ship with the function, without keys and Flows."""
    shipped: dict[str, Declaration] = json.loads(Path(__file__).with_name("presets.json").read_bytes())
    return shipped


def _with_preset(declaration: Declaration) -> Declaration:
    said = {field: value for field, value in declaration.items() if value is not None}
    if (name := said.get("preset")) is None:
        return said
    if not isinstance(name, str) or name not in presets():
        raise ValueError(f"preset must be one of {', '.join(presets())}")
    preset = presets()[name]
    command = said.get("command", {})
    if isinstance(command, dict):
        own = {field: expression for field, expression in command.items() if expression is not None}
        said["command"] = preset["command"] | own
    return preset | said


def _proof(verify: Declaration) -> Proof:
    said = {field: value for field, value in verify.items() if value is not None}
    kind = said.setdefault("type", "standard")
    if not isinstance(kind, str) or kind not in _schema()["$defs"]:
        raise ValueError(f"verify.type must be one of {', '.join(_schema()['$defs'])}")
    _checked("verify.", kind, said)
    said = _DEFAULTS.get(kind, {}) | said
    for header in said.keys() & {"header", "timestamp_header"}:
        said[header] = said[header].lower()
    if kind == "hmac" and "prefix" in said:
        if "format" in said:
            raise ValueError("verify.format and verify.prefix exclude each other")
        said["format"] = said.pop("prefix") + "{signature}"
    proof = Proof(**said)
    if proof.format.count("{signature}") != 1 or proof.format.count("{timestamp}") > 1:
        raise ValueError("verify.format must contain {signature} once, and {timestamp} at most once")
    if "{body}" not in proof.signed:
        raise ValueError("verify.signed must contain {body}")
    # The timestamp is nowhere, in the format, or in a separate header.
    places = ("{timestamp}" in proof.format) + (proof.timestamp_header is not None)
    if places != ("{timestamp}" in proof.signed):
        raise ValueError("verify.signed must have {timestamp} if timestamp_header or format has it, else not")
    return proof


def _challenge(declared: Declaration) -> str | Expression | None:
    said = {field: value for field, value in declared.items() if value is not None}
    if len(said) > 1:
        raise ValueError("challenge must have either header or body")
    if "header" in said:
        return str(said["header"]).lower()
    return _expression("challenge.body", said["body"]) if said else None


def _expression(field: str, text: str) -> Expression:
    try:
        return Expression.compile(text)
    except ValueError as error:
        raise ValueError(f"{field} {error}") from None


def _key(proof: Proof, position: int, text: str) -> bytes:
    try:
        return parse_key(proof.type, text, proof.key_encoding)
    except ValueError as error:
        raise ValueError(f"keys.{position} {error}") from None


def _signing_key(entry: object) -> bytes | None:
    try:
        return parse_key("standard", entry) if isinstance(entry, str) else None
    except ValueError:
        return None


def _decoded(request: HttpRequest) -> object:
    """The body's JSON, or a form's fields; repeated fields become lists."""
    if not (request.is_form or request.is_json):
        raise UnsupportedMediaType("the body must be application/json or application/x-www-form-urlencoded")
    body = request.body().removeprefix(BOM_UTF8)
    if not body:
        raise InvalidRequest("the body is empty")
    if len(body) > MAX_BODY:
        raise InvalidRequest(f"the body is larger than {MAX_BODY} bytes")
    if not request.is_form:
        return parse_json(body)
    fields: dict[str, list[str]] = {}
    try:
        for name, value in form_fields(body):
            fields.setdefault(name, []).append(value)
    except ValueError:
        raise InvalidRequest("the body is not a form") from None
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


def _is_nothing(value: object) -> bool:
    """Whether JMESPath counts it as false. The number 0 does not, although Python's 0 equals False."""
    return value is None or value is False or value in ("", [], {})


def _as(kind: type[Any], value: object) -> Any:  # noqa: ANN401 - an instance of it
    return value if isinstance(value, kind) else kind()


@cache
def _schema() -> Declaration:
    schema: Declaration = json.loads(Path(__file__).with_name("source.schema.json").read_bytes())
    return schema


@cache
def _check(part: str) -> Callable[[object], Declaration]:
    """Validates a part of a declaration: errors of `oneOf` would not say what is wrong."""
    schema = _schema()
    properties = schema["properties"]
    if part == "source":
        inner = {"verify": {"type": ["object", "null"]}, "command": {"type": "object"}}
        kept = {rule: value for rule, value in schema.items() if rule not in ("anyOf", "$defs")}
        return compiled(kept | {"properties": properties | inner})
    return compiled(properties["command"] if part == "command" else schema["$defs"][part])


def _checked(prefix: str, part: str, given: Declaration) -> Declaration:
    try:
        return _check(part)(given)
    except InvalidRequest as refusal:
        raise ValueError(
            "; ".join(f"{prefix}{field} {message}" for field, message in refusal.errors)
        ) from None
