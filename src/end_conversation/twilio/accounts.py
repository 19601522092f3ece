"""Which Twilio account a command belongs to, and the secret with that account's credentials."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

from end_conversation.errors import AccountNotAllowed
from end_conversation.secret import Secret
from end_conversation.twilio.account import Account
from end_conversation.twilio.credentials import Credentials, parse_credentials

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

    from end_conversation.config import Config
    from end_conversation.deadline import Deadline
    from end_conversation.twilio.transport import Connections

KEPT = 100
"""Accounts whose credentials and rate limits are kept at a time, the most recently used."""

DEFAULT_SID_LIMIT = 2.0
"""Seconds that a command for another account waits to learn the default account's SID."""


class Accounts:
    """The accounts of this deployment, each with its own secret and its own concurrency. Safe for threads.

    Args:
        config: names the secrets.
        secrets_manager: where they are read.
        connections: to Twilio, shared by all accounts.
        concurrency: requests of one account that may be in flight at once.
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
        """The account that a command names; the default one if it names none, or that one.

        Raises:
            AccountNotAllowed: this deployment works for the default account only.
            CredentialsUnavailable: there is no telling, since the default account's secret cannot be read.
        """
        if account_sid is None or self.is_default(account_sid, deadline):
            return self.default
        if self._config.account_secret_prefix is None:
            raise AccountNotAllowed("this deployment does not serve the account")
        # Twilio writes SIDs in lower case, and so are the names of the secrets.
        sid = account_sid[:2] + account_sid[2:].lower()
        with self._lock:
            account = self._others.pop(sid, None)
            if account is None:
                account = self._account(self._config.account_secret_prefix + sid, sid)
            self._others[sid] = account
            if len(self._others) > KEPT:
                self._others.popitem(last=False)
            return account

    def is_default(self, account_sid: str, deadline: Deadline) -> bool:
        """Whether a SID is the default account's, as its secret says.

        Raises:
            CredentialsUnavailable: it cannot be read, and there are no other accounts either.
        """
        credentials = self.default.credentials
        if self._config.account_secret_prefix is None:
            own = credentials.get(deadline).account_sid
        else:
            # The default account's trouble neither fails nor delays the others for long.
            known = credentials.peek(deadline.within(min(DEFAULT_SID_LIMIT, deadline.remaining() / 4)))
            own = known.account_sid if known else ""
        return own.casefold() == account_sid.casefold()

    def _account(self, secret_id: str, account_sid: str | None) -> Account:
        def parse(text: str) -> Credentials:
            credentials = parse_credentials(text)
            if account_sid is not None and credentials.account_sid.casefold() != account_sid.casefold():
                raise ValueError("the account's secret contains another account's credentials")
            return credentials

        secret = Secret(self._secrets_manager, secret_id, parse, self._config.secret_max_age)
        return Account(secret, self._connections, self._concurrency)
