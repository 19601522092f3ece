"""Verifies senders of webhooks: compares what a request claims with what a key's holder would claim.

Each type of proof is one function that reads the request's headers; `check` compares, for all types.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode
from codecs import BOM_UTF8
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import product
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, unquote_to_bytes

from end_conversation.aws.secret import INVISIBLE
from end_conversation.command import parse_date_time
from end_conversation.errors import InvalidRequest, InvalidSignature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from end_conversation.http_request import HttpRequest

TOLERANCE = 300
"""Seconds by which a timestamp may differ from our clock."""

MIN_KEY_BYTES = 24
"""Minimum bytes of a key, according to the Standard Webhooks specification."""

Keys = tuple[bytes, ...]

_STANDARD_KEY_PREFIX = "whsec_"
# Without a period, which separates what is signed: an id could pass for a timestamp otherwise.
_STANDARD_ID = re.compile(r"[!-\-/-~]{1,256}")
_STANDARD_SIGNATURE = re.compile(r"v1,[A-Za-z0-9+/]{43}=")
_STANDARD_FAMILIES = ("webhook", "svix")
_STANDARD_NAMES = ("id", "timestamp", "signature")
_PLACEHOLDER = re.compile(r"\{(timestamp|method|url|body|header:[A-Za-z0-9_-]+)\}")
_FORMAT_PLACEHOLDER = re.compile(r"\\\{(timestamp|signature)\\\}")  # of an escaped template
_PORT = re.compile(r":\d+$", re.ASCII)
_UNIX = {"unix": (re.compile(r"\d{1,12}", re.ASCII), 1), "unix-ms": (re.compile(r"\d{1,15}", re.ASCII), 1000)}
_TWILIO_ALGORITHMS = {"HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}
_MAX_FORM_FIELDS = 1000
_PUBLISHED_KEYS = ("dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==",)
"""Anybody can sign with them. https://developer.zendesk.com/documentation/webhooks/verifying/"""


@dataclass(frozen=True, slots=True)
class Proof:
    """How a source's requests are verified: `verify` of its declaration, with all defaults.

    Attributes:
        type: `standard`, `hmac`, `token`, `basic` or `twilio`; the other fields are for the types that use
            them. `none` rejects everything.
        header: name of the header with the signature or token, in lower case.
        algorithm: `sha256` or `sha1`.
        encoding: of the signature, `hex` or `base64`.
        prefix: what precedes a token in the header's value.
        format: the header's value, a template of `{signature}` and, if it is there, `{timestamp}`.
        key_encoding: of the keys, `text`, `hex` or `base64`.
        signed: what is signed, a template of `{timestamp}`, `{method}`, `{url}`, `{header:NAME}`, `{body}`.
        timestamp_header: in lower case; None if there is no timestamp, or it is in the signature's header.
        timestamp_format: `unix`, `unix-ms` or `rfc3339`.
    """

    type: str = "standard"
    header: str = ""
    algorithm: str = "sha256"
    encoding: str = "hex"
    prefix: str = ""
    format: str = "{signature}"
    key_encoding: str = "text"
    signed: str = "{body}"
    timestamp_header: str | None = None
    timestamp_format: str = "unix"


class Claim(NamedTuple):
    """The values to compare.

    Attributes:
        given: what the request has; one match is enough.
        expected: what a key's holder would have sent, in one or more spellings.
    """

    given: tuple[bytes, ...]
    expected: Callable[[bytes], tuple[bytes, ...]]


def check(proof: Proof, keys: Keys, request: HttpRequest, now: float, base_url: str | None = None) -> None:
    """Reject a request that was not made by a holder of one of the keys.

    Every rejection takes the same time: the body is always hashed, with every key.

    Args:
        proof: how to verify it.
        keys: any of them may match.
        request: the request.
        now: seconds since 1970.
        base_url: replaces `https://`, host and stage in the URL, if the sender calls another one.

    Raises:
        InvalidSignature: the only error, whatever the request.
    """
    cause = "signature_unknown"
    try:
        body = request.body()
    except InvalidRequest:
        raise InvalidSignature("body_unreadable") from None
    try:
        claim = _CLAIMS[proof.type](proof, request, body, now, base_url)
    except InvalidSignature as refusal:
        cause, claim = refusal.cause, Claim((), lambda key: (hmac.digest(key, body, "sha256"),))
    made = [each for key in keys or (b"no key",) for each in claim.expected(key)]
    # A list, not a generator: the first match must not stop the comparison.
    if not keys or not any([hmac.compare_digest(*pair) for pair in product(made, claim.given)]):  # noqa: C419
        raise InvalidSignature(cause)


def parse_key(kind: str, text: str, encoding: str = "text") -> bytes:
    """Decode a key.

    Args:
        kind: type of the proof.
        text: the key as the vendor shows it; white space around it is ignored.
        encoding: `text`, `hex` or `base64`.

    Raises:
        ValueError: the message never contains the key.
    """
    # Copying and pasting may add a line break.
    text = text.strip(INVISIBLE)
    if text in _PUBLISHED_KEYS:
        raise ValueError("is not secret: its vendor publishes it for tests")
    wanted = "Unicode, and not blank"
    try:
        if kind == "standard":
            wanted = f"the base64 of {MIN_KEY_BYTES} bytes or more"
            key = _from_base64(text.removeprefix(_STANDARD_KEY_PREFIX))
            if len(key) >= MIN_KEY_BYTES:
                return key
        elif kind == "basic":
            wanted = "user:password"
            # Without a password, anybody who knows the user would pass.
            if text.partition(":")[2].strip():
                return text.encode()
        elif encoding != "text":
            wanted = encoding
            return bytes.fromhex(text) if encoding == "hex" else _from_base64(text)
        elif text.strip():
            return text.encode()
    except ValueError:
        pass
    raise ValueError(f"must be {wanted}")


def sign_standard(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """A signature for `webhook-signature`."""
    content = b".".join((message_id.encode(), timestamp.encode(), body))
    return "v1," + b64encode(hmac.digest(key, content, "sha256")).decode()


def sign_hmac(proof: Proof, key: bytes, content: bytes) -> str:
    """A signature for a proof of the type `hmac`."""
    digest = hmac.digest(key, content, proof.algorithm)
    return digest.hex() if proof.encoding == "hex" else b64encode(digest).decode()


def sign_twilio(key: bytes, url: str, fields: Iterable[tuple[str, str]], algorithm: str = "sha1") -> str:
    """Twilio's signature for a URL and a form's fields.

    https://www.twilio.com/docs/usage/webhooks/webhooks-security
    """
    content = url + "".join(name + value for name, value in sorted(set(fields)))
    return b64encode(hmac.digest(key, content.encode(), algorithm)).decode()


def signed_content(proof: Proof, request: HttpRequest, timestamp: str, base_url: str | None = None) -> bytes:
    """What is signed: the filled-in template of a proof of the type `hmac`.

    Raises:
        InvalidSignature: the request lacks a header that is signed.
    """
    fillers: dict[str, Callable[[], bytes]] = {
        "timestamp": timestamp.encode,
        "method": partial(_bytes, request.method or ""),
        "url": lambda: request.url(base_url).encode(),
        "body": request.body,
    }

    def filled(name: str) -> bytes:
        kind, _, header = name.partition(":")
        return _bytes(_header(request, header.lower(), "header")) if header else fillers[kind]()

    # Every other piece is a placeholder's name.
    pieces = _PLACEHOLDER.split(proof.signed)
    return b"".join(filled(each) if index % 2 else each.encode() for index, each in enumerate(pieces))


def form_fields(body: bytes) -> list[tuple[str, str]]:
    """The fields of a form, in order; a byte order mark is ignored.

    https://url.spec.whatwg.org/#urlencoded-parsing

    Raises:
        ValueError: it has more than a thousand fields.
    """
    pairs = body.removeprefix(BOM_UTF8).split(b"&")
    if len(pairs) > _MAX_FORM_FIELDS:
        raise ValueError
    parts = (pair.replace(b"+", b" ").partition(b"=") for pair in pairs if pair)
    return [(_unquoted(name), _unquoted(value)) for name, _, value in parts]


def _standard(_: Proof, request: HttpRequest, body: bytes, now: float, __: str | None) -> Claim:
    """Standard Webhooks: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.

    Not the reference library, which decodes the body, fails at the first unreadable entry of
    `webhook-signature` and accepts any float as a timestamp; the scheme is a few lines.
    """
    # All three of one family; Svix sends the scheme under its own names, too.
    family = max(
        _STANDARD_FAMILIES,
        key=lambda family: sum(bool(request.header(f"{family}-{name}")) for name in _STANDARD_NAMES),
    )
    message_id, timestamp, entries = (_header(request, f"{family}-{name}", name) for name in _STANDARD_NAMES)
    if not _STANDARD_ID.fullmatch(message_id):
        raise InvalidSignature("id_malformed")
    _check_age(timestamp, "unix", now)
    signatures = [entry.encode() for entry in entries.split(" ") if _STANDARD_SIGNATURE.fullmatch(entry)]
    if not signatures:
        raise InvalidSignature("signature_malformed")
    return Claim(tuple(signatures), lambda key: (sign_standard(key, message_id, timestamp, body).encode(),))


def _hmac(proof: Proof, request: HttpRequest, _: bytes, now: float, base_url: str | None) -> Claim:
    signatures, timestamps = _parts(proof.format, _header(request, proof.header, "signature"))
    if not signatures:
        raise InvalidSignature("signature_malformed")
    timestamp = ""
    if "{timestamp}" in proof.signed:
        if proof.timestamp_header is not None:
            timestamp = _header(request, proof.timestamp_header, "timestamp")
        elif len(set(timestamps)) == 1:
            timestamp = timestamps[0]
        else:
            raise InvalidSignature("timestamp_repeated" if timestamps else "timestamp_missing")
        _check_age(timestamp, proof.timestamp_format, now)
    content = signed_content(proof, request, timestamp, base_url)
    given = (_bytes(each.lower() if proof.encoding == "hex" else each) for each in signatures)
    return Claim(tuple(given), lambda key: (sign_hmac(proof, key, content).encode(),))


def _token(proof: Proof, request: HttpRequest, body: bytes, _: float, __: str | None) -> Claim:
    return _knows(_bytes(_without(proof.prefix, _header(request, proof.header, "signature"))), body)


def _basic(_: Proof, request: HttpRequest, body: bytes, __: float, ___: str | None) -> Claim:
    """RFC 7617."""
    encoded = _without("Basic ", _header(request, "authorization", "signature"))
    try:
        return _knows(b64decode(encoded, validate=True), body)
    except ValueError:
        raise InvalidSignature("signature_malformed") from None


def _twilio(_: Proof, request: HttpRequest, body: bytes, __: float, base_url: str | None) -> Claim:
    """Twilio's scheme, as its SDKs validate it: https://www.twilio.com/docs/usage/webhooks/webhooks-security."""
    given = _header(request, "x-twilio-signature", "signature")
    settings = "".join(request.header("x-twilio-webhooks-signature-settings"))
    named = dict(part.strip().partition("=")[::2] for part in settings.split(","))
    algorithm = _TWILIO_ALGORITHMS.get(named.get("algorithm", "") or "HMAC_SHA1")
    if algorithm is None:
        raise InvalidSignature("algorithm_unknown")
    url = request.url(base_url)
    fields: list[tuple[str, str]] = []
    if request.is_form:
        try:
            fields = form_fields(body)
        except ValueError:
            raise InvalidSignature("body_unreadable") from None
    elif parse_qs(request.query).get("bodySHA256") != [sha256(body).hexdigest()]:
        # The signature covers the URL only; the URL contains the body's hash.
        raise InvalidSignature("body_hash_unknown")
    return Claim(
        (_bytes(given),),
        lambda key: tuple(sign_twilio(key, each, fields, algorithm).encode() for each in _spellings(url)),
    )


def _none(_: Proof, __: HttpRequest, ___: bytes, ____: float, _____: str | None) -> Claim:
    raise InvalidSignature("source_unknown")


def _knows(given: bytes, body: bytes) -> Claim:
    """The request contains the key itself."""

    def expected(key: bytes) -> tuple[bytes, ...]:
        # As much work as for a signature, so that the time does not reveal the type of source.
        hmac.digest(key, body, "sha256")
        return (key,)

    return Claim((given,), expected)


def _parts(template: str, value: str) -> tuple[list[str], list[str]]:
    """What a header's value has in place of `{signature}` and `{timestamp}`.

    Both may be lists. The value's entries may have any order, be repeated or be others, as they are while a
    sender rotates its key or changes its scheme (`t=…,v1=…,v1=…,v0=…`). A value just like the template is
    read in order, since there only the place may tell what is what (`{timestamp};{signature}`).
    """
    separator = ";" if ";" in template else ","
    # Like RFC 9110's schemes, the text around the placeholders is case-insensitive.
    patterns = [
        re.compile(_FORMAT_PLACEHOLDER.sub(r"(?P<\1>.+?)", re.escape(piece.strip())), re.IGNORECASE)
        for piece in template.split(separator)
    ]
    # While a key is rotated, some senders put a space between what belongs to one key and to the other.
    between = separator if re.search(r"\s", template) else rf"[{separator}\s]+"
    entries = [entry.strip() for entry in re.split(between, value)]
    matches = [pattern.fullmatch(entry) for pattern, entry in zip(patterns, entries, strict=False)]
    if len(patterns) != len(entries) or not all(matches):
        matches = [pattern.fullmatch(entry) for pattern, entry in product(patterns, entries)]
    found: dict[str, list[str]] = {"signature": [], "timestamp": []}
    for match in filter(None, matches):
        for name, text in match.groupdict().items():
            found[name].append(text)
    return found["signature"], found["timestamp"]


def _header(request: HttpRequest, name: str, what: str) -> str:
    match request.header(name):
        case [value] if value:
            return value
        case [_, _, *_]:
            raise InvalidSignature(f"{what}_repeated")
    raise InvalidSignature(f"{what}_missing")


def _without(prefix: str, value: str) -> str:
    """The value without its prefix, which is case-insensitive like RFC 9110's schemes."""
    if value[: len(prefix)].lower() != prefix.lower():
        raise InvalidSignature("signature_malformed")
    return value[len(prefix) :]


def _check_age(timestamp: str, form: str, now: float) -> None:
    try:
        if form == "rfc3339":
            sent_at = parse_date_time(timestamp).timestamp()
        else:
            digits, per_second = _UNIX[form]
            if not digits.fullmatch(timestamp):
                raise InvalidSignature("timestamp_malformed")
            sent_at = int(timestamp) / per_second
    except ValueError:
        raise InvalidSignature("timestamp_malformed") from None
    age = now - sent_at
    if abs(age) > TOLERANCE:
        raise InvalidSignature("timestamp_too_old" if age > 0 else "timestamp_too_new")


def _spellings(url: str) -> set[str]:
    """The URL with and without its port: Twilio's validators try both, since its signing varies."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    bare = _PORT.sub("", host)
    ported = host if host != bare else f"{host}:{443 if scheme == 'https' else 80}"
    return {f"{scheme}://{each}{slash}{path}" for each in (bare, ported)}


def _from_base64(text: str) -> bytes:
    """Decode it; some vendors leave out the padding."""
    return b64decode(text + "=" * (-len(text) % 4), validate=True)


def _unquoted(text: bytes) -> str:
    return unquote_to_bytes(text).decode(errors="replace")


def _bytes(text: str) -> bytes:
    """Bytes to compare, even of lone surrogates, which JSON can contain."""
    return text.encode(errors="surrogatepass")


_CLAIMS: dict[str, Callable[[Proof, HttpRequest, bytes, float, str | None], Claim]] = {
    "standard": _standard,
    "hmac": _hmac,
    "token": _token,
    "basic": _basic,
    "twilio": _twilio,
    "none": _none,
}
