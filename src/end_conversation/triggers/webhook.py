"""The Standard Webhooks scheme: who holds a signing key proves it by a signature over the whole request.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

The reference library decodes the body, gives up at the first entry of `webhook-signature` that it cannot read
and takes any float for a timestamp; what the scheme says is a few lines, and nothing to wait for at import.
"""

from __future__ import annotations

import hmac
import json
import re
import time
from base64 import b64decode, b64encode
from functools import cache
from itertools import product
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from end_conversation.aws import client
from end_conversation.errors import CredentialsUnavailable, RequestRejected
from end_conversation.observability import logger
from end_conversation.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from end_conversation.deadline import Deadline

TOLERANCE = 300
"""Seconds that a request may be old, or its sender's clock ahead."""

RENEWAL_INTERVAL = 60.0
"""Seconds between two readings of the keys for the sake of a signature that none of them made."""

FAILURE_PAUSE = 5.0
"""Seconds after a failure to read the keys for which they are not asked for again."""

BRIDGED_FOR = 3600.0
"""Seconds for which keys are used on while Secrets Manager fails: only we enforce that one is revoked."""

SHORTEST_KEY = 24
"""Bytes that the specification asks of a key at least."""

_KEY_PREFIX = "whsec_"
# Without a full stop, which divides what is signed: a sender's text could pass for a timestamp otherwise.
_ID = re.compile(r"[!-\-/-~]{1,256}")
_TIMESTAMP = re.compile(r"\d{1,12}", re.ASCII)
_SIGNATURE = re.compile(r"v1,[A-Za-z0-9+/]{43}=")

Keys = tuple[bytes, ...]


class InvalidSignature(RequestRejected):
    """Nothing proves that a holder of a signing key sent the request; what is wrong, only the log tells."""

    code = "invalid_signature"

    def __init__(self, cause: str) -> None:
        super().__init__("the request is not signed as it has to be")
        self._cause = cause

    @property
    def facts(self) -> dict[str, int | str | None]:
        """The cause: a word of ours, and nothing that the sender chose."""
        return {"cause": self._cause}


class Signed(NamedTuple):
    """What the headers say about a request, in the form that the scheme asks for.

    Attributes:
        id: the sender's id of the message.
        timestamp: when it was sent, in seconds since 1970.
        signatures: those of version 1.
    """

    id: str
    timestamp: str
    signatures: tuple[str, ...]

    @classmethod
    def of(cls, header: Callable[[str], list[str]]) -> Signed:
        """Read the headers.

        Args:
            header: gives every value that the request has for a name in lower case.

        Raises:
            InvalidSignature: one is missing, repeated or malformed, or it is not the time for such a request.
        """
        values: list[str] = []
        for name in ("id", "timestamp", "signature"):
            match header(f"webhook-{name}"):
                case [value] if value:
                    values.append(value)
                case [_, _, *_]:
                    raise InvalidSignature(f"{name}_repeated")
                case _:
                    raise InvalidSignature(f"{name}_missing")
        message_id, timestamp, entries = values
        if not _ID.fullmatch(message_id):
            raise InvalidSignature("id_malformed")
        if not _TIMESTAMP.fullmatch(timestamp):
            raise InvalidSignature("timestamp_malformed")
        age = time.time() - int(timestamp)
        if abs(age) > TOLERANCE:
            raise InvalidSignature("timestamp_too_old" if age > 0 else "timestamp_too_new")
        signatures = tuple(entry for entry in entries.split(" ") if _SIGNATURE.fullmatch(entry))
        if not signatures:
            raise InvalidSignature("signature_malformed")
        return cls(message_id, timestamp, signatures)

    def is_by(self, keys: Keys, body: bytes) -> bool:
        """Whether one of the keys made one of the signatures."""
        expected = [sign(key, self.id, self.timestamp, body) for key in keys]
        return any(hmac.compare_digest(*pair) for pair in product(expected, self.signatures))


class Verifier:
    """Knows the signing keys, and reads them again before it refuses a signature. Safe for threads."""

    def __init__(self, keys: Secret[Keys]) -> None:
        self._keys = keys
        self._lock = Lock()
        # By the wall clock, as the secret's own age is.
        self._renewed_at = 0.0
        self._failed_at = 0.0

    def check(self, signed: Signed, body: bytes, deadline: Deadline) -> None:
        """Refuse a request that nobody with a key has signed.

        Raises:
            InvalidSignature: none of the signatures was made by one of the keys.
            CredentialsUnavailable: there are no keys to be had.
        """
        asked_at = monotonic()
        keys = self._get(deadline)
        if signed.is_by(keys, body):
            return
        if self._may_renew():
            try:
                newer = self._keys.renew(keys, asked_at, deadline)
            except CredentialsUnavailable as error:
                # The keys at hand say no, as they would if there had been nothing to read again.
                logger.error("signing_keys_not_renewed", extra={"detail": str(error)})
                newer = None
            if newer is not None and signed.is_by(newer, body):
                return
        raise InvalidSignature("signature_unknown")

    def _get(self, deadline: Deadline) -> Keys:
        """The keys; where there are none to be had, forgers do not make us ask with every request."""
        if 0 <= time.time() - self._failed_at < FAILURE_PAUSE:
            raise CredentialsUnavailable("the signing keys could not be read a moment ago")
        try:
            return self._keys.get(deadline)
        except CredentialsUnavailable:
            self._failed_at = time.time()
            raise

    def _may_renew(self) -> bool:
        """Whether a minute has gone by, whatever came of the last time: forgers must not set the pace."""
        with self._lock:
            now = time.time()
            if 0 <= now - self._renewed_at < RENEWAL_INTERVAL:
                return False
            self._renewed_at = now
            return True


@cache
def verifier(secret_id: str, max_age: float) -> Verifier:
    """The one for the keys in this secret, for the life of the process."""
    # Anybody can make us look at the keys: not even an age of zero lets that be a call for each time.
    max_age = max(max_age, RENEWAL_INTERVAL)
    return Verifier(Secret(client("secretsmanager"), secret_id, parse_keys, max_age, BRIDGED_FOR))


def sign(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """The signature that a sender puts into `webhook-signature`."""
    content = b".".join((message_id.encode(), timestamp.encode(), body))
    return "v1," + b64encode(hmac.digest(key, content, "sha256")).decode()


def parse_keys(text: str) -> Keys:
    """The signing keys in a secret of the form `{"keys": ["whsec_…", …]}`; the prefix may be missing.

    One that cannot be read is reported and left out: it authenticates nobody, and the others go on working.

    Raises:
        ValueError: there is not one key; the message tells nothing of what there is.
    """
    try:
        secret = json.loads(text)
    except (ValueError, RecursionError):
        # Without its cause, which holds the whole text.
        raise ValueError("the secret of the signing keys is not JSON") from None
    given = secret.get("keys") if isinstance(secret, dict) else None
    keys = [_key(entry) for entry in given] if isinstance(given, list) else []
    if unreadable := [position for position, key in enumerate(keys) if key is None]:
        logger.error("signing_keys_unreadable", extra={"positions": unreadable})
    if readable := tuple(key for key in keys if key is not None):
        return readable
    raise ValueError("the secret of the signing keys holds no key")


def _key(entry: object) -> bytes | None:
    if not isinstance(entry, str):
        return None
    encoded = entry.removeprefix(_KEY_PREFIX)
    try:
        # Some senders give their keys without the padding.
        key = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        return None
    return key if len(key) >= SHORTEST_KEY else None
