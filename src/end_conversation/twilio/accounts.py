"""The Twilio accounts that this deployment serves, each with its secret."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

from end_conversation.aws.secret import Secret
from end_conversation.errors import AccountNotAllowed, CredentialsUnavailable
from end_conversation.twilio.account import Account
from end_conversation.twilio.credentials import Credentials, parse_credentials

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

    from end_conversation.config import Config
    from end_conversation.deadline import Deadline
    from end_conversation.twilio.transport import Connections

MAX_ACCOUNTS = 100
"""Accounts in memory at a time, the most recently used."""


class Accounts:
    """The accounts, each with its own credentials and concurrency limit. Thread-safe.

    Args:
        config: has the names of the secrets.
        secrets_manager: client to read them with.
        connections: to Twilio, shared by all accounts.
        concurrency: requests of one account that may be in flight.
    """

    def __init__(
        self,
        config: Config,
        secrets_manager: SecretsManagerClient,
        connections: Connections,
        concurrency: int,
    ) -> None:
        self._config = config
        self._secrets_manager = secrets_manager
        self._connections = connections
        self._concurrency = concurrency
        self._lock = Lock()
        self._others: OrderedDict[str, Account] = OrderedDict()
        self.default = self._account(config.twilio_secret_id, None)

    def get(self, account_sid: str | None, deadline: Deadline) -> Account:
        """The account that a command names, or the default one.

        Raises:
            AccountNotAllowed: this deployment serves the default account only.
            CredentialsUnavailable: a secret that is needed to decide cannot be read.
        """
        if account_sid is None:
            return self.default
        default = self.default.credentials
        has_others = self._config.account_secret_prefix is not None
        known = default.last_value
        if not has_others or (known is not None and _is_of(account_sid, known)):
            if _is_of(account_sid, default.get(deadline)):
                return self.default
            if not has_others:
                raise AccountNotAllowed("this deployment does not serve the account")
        # Problems of the default account must not affect others: read its secret only if the named account
        # has none of its own.
        account = self._other(account_sid)
        try:
            account.credentials.get(deadline)
        except CredentialsUnavailable:
            with suppress(CredentialsUnavailable):
                if _is_of(account_sid, default.get(deadline)):
                    return self.default
            raise
        return account

    def check_allowed(self, account_sid: str | None, deadline: Deadline) -> None:
        """Reject an account that this deployment does not serve, if it can tell in time.

        Raises:
            AccountNotAllowed: this deployment serves the default account only.
        """
        if account_sid is not None and self._config.account_secret_prefix is None:
            # The queue's consumer finds out, or retries.
            with suppress(CredentialsUnavailable):
                self.get(account_sid, deadline)

    def _other(self, account_sid: str) -> Account:
        # Twilio writes SIDs in lower case; secrets are named the same way.
        sid = account_sid[:2] + account_sid[2:].lower()
        with self._lock:
            account = self._others.pop(sid, None)
            if account is None:
                account = self._account(f"{self._config.account_secret_prefix}{sid}", sid)
            self._others[sid] = account
            if len(self._others) > MAX_ACCOUNTS:
                self._others.popitem(last=False)
            return account

    def _account(self, secret_id: str, account_sid: str | None) -> Account:
        def parse(text: str) -> Credentials:
            credentials = parse_credentials(text)
            if account_sid is not None and not _is_of(account_sid, credentials):
                raise ValueError("the account's secret contains another account's credentials")
            return credentials

        secret = Secret(self._secrets_manager, secret_id, parse, self._config.secret_max_age)
        return Account(secret, self._connections, self._concurrency)


def _is_of(account_sid: str, credentials: Credentials) -> bool:
    return credentials.account_sid.casefold() == account_sid.casefold()
