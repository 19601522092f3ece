"""The keys that webhooks are signed with: cached, and read again before a signature is refused."""

from __future__ import annotations

import time
from functools import cache
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from end_conversation.aws import client
from end_conversation.errors import CredentialsUnavailable
from end_conversation.observability import logger
from end_conversation.secret import Secret
from end_conversation.triggers.proof import Keys, Proof, check
from end_conversation.triggers.request import InvalidSignature
from end_conversation.triggers.sources import parse_webhook_secret

if TYPE_CHECKING:
    from end_conversation.deadline import Deadline
    from end_conversation.triggers.request import HttpRequest

RENEWAL_INTERVAL = 60.0
"""Seconds between two readings of the keys for the sake of a signature that none of them made."""

FAILURE_PAUSE = 5.0
"""Seconds after a failure to read the keys for which they are not asked for again."""

_STANDARD = Proof("standard")


class Verifier:
    """Knows the signing keys, and reads them again before it refuses a signature. Safe for threads."""

    def __init__(self, keys: Secret[Keys]) -> None:
        self._keys = keys
        self._lock = Lock()
        # By the wall clock, as the secret's own age is.
        self._renewed_at = 0.0
        self._failed_at = 0.0

    def check(self, request: HttpRequest, deadline: Deadline) -> None:
        """Refuse a request that nobody with a key has signed.

        Raises:
            InvalidSignature: it is not signed, or not by one of the keys.
            CredentialsUnavailable: there are no keys to be had.
        """
        asked_at = monotonic()
        keys = self._get(deadline)
        try:
            check(_STANDARD, keys, request, time.time())
        except InvalidSignature as refusal:
            newer = None
            if refusal.is_by_secret and self._may_renew():
                try:
                    newer = self._keys.renew(keys, asked_at, deadline)
                except CredentialsUnavailable as error:
                    # The keys at hand say no, as they would if there had been nothing to read again.
                    logger.error("signing_keys_not_renewed", extra={"detail": str(error)})
            if newer is None:
                raise
            check(_STANDARD, newer, request, time.time())

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
    return Verifier(Secret(client("secretsmanager"), secret_id, _keys, max_age))


def _keys(text: str) -> Keys:
    secret = parse_webhook_secret(text)
    if secret.unreadable_keys:
        logger.error("signing_keys_unreadable", extra={"positions": secret.unreadable_keys})
    if not secret.keys:
        raise ValueError("the secret of the signing keys holds no key")
    return secret.keys
