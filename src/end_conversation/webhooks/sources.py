"""Sources: verify other systems' webhooks and make commands from their events.

They are declared in the webhook secret, next to our own signing keys. A declaration is validated and compiled
when the secret is read, so requests only evaluate it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from end_conversation.command import parse_json
from end_conversation.errors import FieldError, InvalidRequest, UnsupportedMediaType
from end_conversation.http_request import SOURCE_NAME
from end_conversation.schema import compiled
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
    """

    name: str
    proof: Proof
    keys: Keys = field(repr=False)
    command: Mapping[str, Expression]
    each: Expression | None = None
    when: Expression | None = None
    respond: str = "async"

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

    def events(self, request: HttpRequest) -> list[Payload | None]:
        """The command fields of each event; None for ignored events.

        `Command.parse` validates them.

        Raises:
            UnsupportedMediaType: the content type is neither JSON nor a form.
            InvalidRequest: the body does not fit the declaration; the message quotes nothing of it.
        """
        body = _decoded(request)
        events = [body] if self.each is None else self._find("each", self.each, body)
        if not isinstance(events, list) or len(events) > MAX_EVENTS:
            raise InvalidRequest.of_fields(
                FieldError("each", f"must be a list of at most {MAX_EVENTS} events")
            )
        return [self._payload(event) for event in events]

    def _payload(self, event: object) -> Payload | None:
        if self.when is not None and _is_nothing(self._find("when", self.when, event)):
            return None
        return {name: self._find(name, expression, event) for name, expression in self.command.items()}

    @staticmethod
    def _find(name: str, expression: Expression, payload: object) -> Any:  # noqa: ANN401 - any JSON
        try:
            return expression.search(payload)
        except EvaluationError as error:
            raise InvalidRequest.of_fields(FieldError(name, str(error))) from None


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
            InvalidSignature: no valid proof, or no such source; both take equally long.
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
        tuple(_key(proof.type, position, key) for position, key in enumerate(given["keys"])),
        {field.removeprefix("command."): expression for field, expression in expressions.items()},
        each,
        when,
        given["respond"] or "async",
    )


@cache
def presets() -> dict[str, Declaration]:
    """The declarations that ship with the function, without what only the user knows."""
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
    proof = Proof(**said)
    if "{body}" not in proof.signed:
        raise ValueError("verify.signed must contain {body}")
    if ("{timestamp}" in proof.signed) != (proof.timestamp_header is not None):
        raise ValueError("verify.timestamp_header and {timestamp} in verify.signed require each other")
    return proof


def _expression(field: str, text: str) -> Expression:
    try:
        return Expression.compile(text)
    except ValueError as error:
        raise ValueError(f"{field} {error}") from None


def _key(kind: str, position: int, text: str) -> bytes:
    try:
        return parse_key(kind, text)
    except ValueError as error:
        raise ValueError(f"keys.{position} {error}") from None


def _signing_key(entry: object) -> bytes | None:
    try:
        return parse_key("standard", entry) if isinstance(entry, str) else None
    except ValueError:
        return None


def _decoded(request: HttpRequest) -> object:
    """The body's JSON, or a form's fields; repeated fields become lists."""
    if not request.is_form and request.media_type not in ("", "application/json"):
        raise UnsupportedMediaType("the body must be application/json or application/x-www-form-urlencoded")
    body = request.body()
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
