"""Verifies webhooks with one secret: the signing keys of our own route, and the declared sources."""

from __future__ import annotations

import time
from functools import cache
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from end_conversation.aws.clients import client
from end_conversation.aws.secret import Secret
from end_conversation.errors import CredentialsUnavailable, InvalidSignature
from end_conversation.observability import count, logger
from end_conversation.webhooks.proofs import Proof, check
from end_conversation.webhooks.sources import Source, WebhookSecret, parse_webhook_secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from end_conversation.config import Config
    from end_conversation.deadline import Deadline
    from end_conversation.http_request import HttpRequest

T = TypeVar("T")

RENEWAL_INTERVAL = 60.0
"""Seconds between two reads of the secret because of rejected requests."""

FAILURE_PAUSE = 5.0
"""Seconds without another attempt after a failed read of the secret."""

OUTAGE_GRACE = 3600.0
"""Seconds for which keys stay in use while Secrets Manager is down; only we enforce their revocation."""

_OWN = Proof("standard")


def authenticate(config: Config, request: HttpRequest, deadline: Deadline) -> None:
    """Reject a request to our own route without a valid signature by one of our keys.

    Raises:
        InvalidSignature: it has none.
        CredentialsUnavailable: the keys cannot be read, or none of them can be decoded.
    """

    def check_own(secret: WebhookSecret) -> None:
        if secret.unreadable_keys and not secret.keys:
            # The operator has to repair it, so senders should retry.
            raise CredentialsUnavailable("the webhook secret has no usable signing key")
        check(_OWN, secret.keys, request, time.time(), config.webhook_base_url)

    _verifier(config).verify(check_own, deadline)


def authenticated_source(config: Config, request: HttpRequest, deadline: Deadline) -> Source:
    """The source that sent a request.

    Raises:
        InvalidSignature: no valid proof, or an unknown source.
        CredentialsUnavailable: the declarations cannot be read.
    """
    return _verifier(config).verify(
        lambda secret: secret.authenticate(request, time.time(), config.webhook_base_url), deadline
    )


class Verifier:
    """Verifies with the cached secret; reads it again before it rejects a request. Thread-safe."""

    def __init__(self, secret: Secret[WebhookSecret]) -> None:
        self._secret = secret
        self._lock = Lock()
        # By the wall clock, like the secret's own age.
        self._renewed_at = 0.0
        self._failed_at = 0.0

    def verify(self, check: Callable[[WebhookSecret], T], deadline: Deadline) -> T:
        """The result of `check` for the cached secret, or for the secret read again.

        Raises:
            InvalidSignature: `check` rejects both.
            CredentialsUnavailable: the secret cannot be read, or `check` can use neither.
        """
        asked_at = monotonic()
        secret = self._get(deadline)
        try:
            return check(secret)
        except (InvalidSignature, CredentialsUnavailable):
            if not self._may_renew():
                raise
            newer = self._renewed(secret, asked_at, deadline)
            if newer is None:
                raise
        return check(newer)

    def _get(self, deadline: Deadline) -> WebhookSecret:
        """The secret. After a failed read, forged requests must not each cause another one."""
        if 0 <= time.time() - self._failed_at < FAILURE_PAUSE:
            raise CredentialsUnavailable("the webhook secret could not be read a moment ago")
        try:
            return self._secret.get(deadline)
        except CredentialsUnavailable:
            self._failed_at = time.time()
            raise

    def _renewed(self, refusing: WebhookSecret, asked_at: float, deadline: Deadline) -> WebhookSecret | None:
        """The secret's content now; None if it is the same, or unknown because Secrets Manager is down."""
        try:
            return self._secret.renew(refusing, asked_at, deadline)
        except CredentialsUnavailable as error:
            if self._secret.last_value is None:
                raise
            logger.error("signing_keys_not_renewed", extra={"detail": str(error)})
            return None

    def _may_renew(self) -> bool:
        """Whether a minute has passed: forged requests must not cause more reads."""
        with self._lock:
            now = time.time()
            if 0 <= now - self._renewed_at < RENEWAL_INTERVAL:
                return False
            self._renewed_at = now
            return True


def _verifier(config: Config) -> Verifier:
    if config.webhook_secret_id is None:
        raise InvalidSignature("no_keys_configured")
    return _verifier_of(config.webhook_secret_id, config.secret_max_age)


@cache
def _verifier_of(secret_id: str, max_age: float) -> Verifier:
    # Anybody can cause a read, so limit them even with a maximum age of zero.
    max_age = max(max_age, RENEWAL_INTERVAL)
    return Verifier(Secret(client("secretsmanager"), secret_id, _parse, max_age, OUTAGE_GRACE))


def _parse(text: str) -> WebhookSecret:
    secret = parse_webhook_secret(text)
    if secret.unreadable_keys:
        logger.error("signing_keys_unreadable", extra={"positions": secret.unreadable_keys})
    for name, reason in secret.invalid.items():
        logger.error("source_invalid", extra={"source": name, "detail": reason})
        count("SourcesInvalid")
    return secret
