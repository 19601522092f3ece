"""Who may send webhooks: our own signing keys and the declared sources, both from one secret."""

from __future__ import annotations

import time
from functools import cache
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from end_conversation.aws import client
from end_conversation.errors import CredentialsUnavailable
from end_conversation.observability import count, logger
from end_conversation.secret import Secret
from end_conversation.triggers.proof import Proof, check
from end_conversation.triggers.request import InvalidSignature
from end_conversation.triggers.sources import Source, WebhookSecret, parse_webhook_secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from end_conversation.config import Config
    from end_conversation.deadline import Deadline
    from end_conversation.triggers.request import HttpRequest

T = TypeVar("T")

RENEWAL_INTERVAL = 60.0
"""Seconds between two readings of the secret for the sake of a request that it does not let through."""

FAILURE_PAUSE = 5.0
"""Seconds after a failure to read the secret for which it is not asked for again."""

BRIDGED_FOR = 3600.0
"""Seconds for which keys are used on while Secrets Manager fails: only we enforce that one is revoked."""

_OWN = Proof("standard")


def authenticate(config: Config, request: HttpRequest, deadline: Deadline) -> None:
    """Refuse a request to the route of our own that nobody with one of our keys has signed.

    Raises:
        InvalidSignature: none of the signatures was made by one of the keys.
        CredentialsUnavailable: there are no keys to be had.
    """
    _senders(config).known(
        lambda secret: check(_OWN, secret.keys, request, time.time(), config.webhook_base_url), deadline
    )


def authenticated_source(config: Config, request: HttpRequest, deadline: Deadline) -> Source:
    """The source that a request comes from.

    Raises:
        InvalidSignature: nothing proves it, or there is no such source.
        CredentialsUnavailable: there are no declarations to be had.
    """
    return _senders(config).known(
        lambda secret: secret.authenticate(request, time.time(), config.webhook_base_url), deadline
    )


class Senders:
    """Knows the secret, and reads it again before it refuses a request. Safe for threads."""

    def __init__(self, secret: Secret[WebhookSecret]) -> None:
        self._secret = secret
        self._lock = Lock()
        # By the wall clock, as the secret's own age is.
        self._renewed_at = 0.0
        self._failed_at = 0.0

    def known(self, check: Callable[[WebhookSecret], T], deadline: Deadline) -> T:
        """What `check` gives for the secret as it is, or else as it is now.

        Raises:
            InvalidSignature: as `check` does, for both.
            CredentialsUnavailable: the secret cannot be read.
        """
        asked_at = monotonic()
        secret = self._get(deadline)
        try:
            return check(secret)
        except InvalidSignature as refusal:
            if not (refusal.is_by_secret and self._may_renew()):
                raise
            newer = self._renewed(secret, asked_at, deadline)
            if newer is None:
                raise
        return check(newer)

    def _get(self, deadline: Deadline) -> WebhookSecret:
        """The secret; where there is none to be had, forgers do not make us ask with every request."""
        if 0 <= time.time() - self._failed_at < FAILURE_PAUSE:
            raise CredentialsUnavailable("the secret of the webhooks could not be read a moment ago")
        try:
            return self._secret.get(deadline)
        except CredentialsUnavailable:
            self._failed_at = time.time()
            raise

    def _renewed(self, refusing: WebhookSecret, asked_at: float, deadline: Deadline) -> WebhookSecret | None:
        """What the secret holds now; None if that is the same, or not known while Secrets Manager fails."""
        try:
            return self._secret.renew(refusing, asked_at, deadline)
        except CredentialsUnavailable as error:
            if self._secret.peek(deadline) is None:
                raise
            logger.error("signing_keys_not_renewed", extra={"detail": str(error)})
            return None

    def _may_renew(self) -> bool:
        """Whether a minute has gone by, whatever came of the last time: forgers must not set the pace."""
        with self._lock:
            now = time.time()
            if 0 <= now - self._renewed_at < RENEWAL_INTERVAL:
                return False
            self._renewed_at = now
            return True


def _senders(config: Config) -> Senders:
    if config.webhook_secret_id is None:
        raise InvalidSignature("no_keys_configured")
    return _senders_of(config.webhook_secret_id, config.secret_max_age)


@cache
def _senders_of(secret_id: str, max_age: float) -> Senders:
    # Anybody can make us look at the secret: not even an age of zero lets that be a call for each time.
    max_age = max(max_age, RENEWAL_INTERVAL)
    return Senders(Secret(client("secretsmanager"), secret_id, _parse, max_age, BRIDGED_FOR))


def _parse(text: str) -> WebhookSecret:
    secret = parse_webhook_secret(text)
    if secret.unreadable_keys:
        logger.error("signing_keys_unreadable", extra={"positions": secret.unreadable_keys})
    for name, reason in secret.invalid.items():
        logger.error("source_invalid", extra={"source": name, "detail": reason})
        count("SourcesInvalid")
    return secret
