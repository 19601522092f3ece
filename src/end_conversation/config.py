"""The settings, read from the environment; an invalid value is a ConfigurationError."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined] # as requests does

from end_conversation.command import FLOW_SID
from end_conversation.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

# https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsRequestEntry.html
_EVENT_BUS = re.compile(r"(arn:aws[\w-]*:events:[a-z0-9-]+:\d{12}:event-bus/)?[/.\w-]{1,256}", re.ASCII)
_HOST_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
# https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html
_SECRET_NAME = re.compile(r"[A-Za-z0-9/_+=.@-]{1,478}", re.ASCII)
_QUEUE_URL = re.compile(r"https?://[!-~]+")
_SECONDS = re.compile(r"\d{1,9}(\.\d{1,3})?", re.ASCII)
_WEBHOOK_BASE_URL = re.compile(r"https://[A-Za-z0-9.-]+(:\d{1,5})?(/[\w.~-]+)*", re.ASCII)
# https://www.twilio.com/docs/twilio-cli/general-usage/regional
_EDGES = {"au1": "sydney", "ie1": "dublin", "jp1": "tokyo"}
_URL_CHARACTERS = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Config:
    """The settings.

    Attributes:
        twilio_secret_id: name or ARN of the secret with the default account's Twilio credentials.
        account_secret_prefix: prefix of the names of other accounts' secrets; None: no other accounts.
        secret_max_age: seconds for which a secret is cached.
        studio_base_url: scheme, host and port of the Studio API.
        proxy_url: HTTP proxy to Twilio, with its credentials; None: a direct connection.
        allowed_flow_sids: the Flows to serve, in lower case; None: all.
        dead_letter_queue_url: where SQS messages go that can never succeed.
        queue_url: where commands go that are carried out later.
        outcome_event_bus: name or ARN of the bus for outcome events.
        webhook_secret_id: name or ARN of the secret with signing keys and sources.
        webhook_base_url: the URL before the route, if senders don't call the gateway's own host and stage.
    """

    twilio_secret_id: str
    account_secret_prefix: str | None
    secret_max_age: float
    studio_base_url: str
    proxy_url: str | None = field(repr=False)
    allowed_flow_sids: frozenset[str] | None
    dead_letter_queue_url: str | None
    queue_url: str | None
    outcome_event_bus: str | None
    webhook_secret_id: str | None
    webhook_base_url: str | None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Config:
        """Read the settings; an empty variable counts as absent, because CloudFormation cannot omit one.

        Raises:
            ConfigurationError: names the variable, not its value.
        """

        def optional(name: str) -> str | None:
            return environ.get(name, "").strip() or None

        twilio_secret_id = optional("TWILIO_SECRET_ID")
        if twilio_secret_id is None:
            raise ConfigurationError("TWILIO_SECRET_ID is not set")
        log_level = environ.get("POWERTOOLS_LOG_LEVEL") or "INFO"
        if log_level.upper() not in logging.getLevelNamesMapping():
            raise ConfigurationError("POWERTOOLS_LOG_LEVEL is not a log level")
        prefix = optional("TWILIO_ACCOUNT_SECRET_PREFIX")
        if prefix is not None and not _SECRET_NAME.fullmatch(prefix):
            raise ConfigurationError("TWILIO_ACCOUNT_SECRET_PREFIX is not valid in a secret's name")
        outcome_event_bus = optional("OUTCOME_EVENT_BUS")
        if outcome_event_bus is not None and not _EVENT_BUS.fullmatch(outcome_event_bus):
            raise ConfigurationError("OUTCOME_EVENT_BUS is not the name or ARN of an event bus")
        webhook_base_url = optional("WEBHOOK_BASE_URL")
        if webhook_base_url is not None and not _WEBHOOK_BASE_URL.fullmatch(webhook_base_url):
            raise ConfigurationError("WEBHOOK_BASE_URL is not of the form https://host[:port][/path]")
        studio_base_url = _studio_base_url(environ)
        return cls(
            twilio_secret_id=twilio_secret_id,
            account_secret_prefix=prefix,
            secret_max_age=_seconds(environ, "TWILIO_SECRET_MAX_AGE_SECONDS", "300"),
            studio_base_url=studio_base_url,
            proxy_url=_proxy_url(environ, studio_base_url),
            allowed_flow_sids=_allowed_flow_sids(environ.get("ALLOWED_FLOW_SIDS", "")),
            dead_letter_queue_url=_queue_url(environ, "DEAD_LETTER_QUEUE_URL"),
            queue_url=_queue_url(environ, "QUEUE_URL"),
            outcome_event_bus=outcome_event_bus,
            webhook_secret_id=optional("WEBHOOK_SECRET_ID"),
            webhook_base_url=webhook_base_url,
        )

    def allows(self, flow_sid: str) -> bool:
        """Whether this deployment serves a Flow."""
        return self.allowed_flow_sids is None or flow_sid.lower() in self.allowed_flow_sids


def _queue_url(environ: Mapping[str, str], name: str) -> str | None:
    value = environ.get(name, "").strip()
    if not value or _QUEUE_URL.fullmatch(value):
        return value or None
    if environ.get("AWS_SAM_LOCAL") == "true":
        # `sam local` sets the queue's logical id unless its env_vars has a URL.
        return None
    raise ConfigurationError(f"{name} is not the URL of a queue")


def _seconds(environ: Mapping[str, str], name: str, default: str) -> float:
    value = environ.get(name) or default
    if not _SECONDS.fullmatch(value):
        raise ConfigurationError(f"{name} is not a number of seconds")
    return float(value)


def _allowed_flow_sids(value: str) -> frozenset[str] | None:
    """The valid SIDs of the list. A list without any allows nothing: it was meant to restrict."""
    if not value:
        return None
    return frozenset(sid.lower() for entry in value.split(",") if FLOW_SID.fullmatch(sid := entry.strip()))


def _studio_base_url(environ: Mapping[str, str]) -> str:
    if base_url := environ.get("TWILIO_STUDIO_BASE_URL"):
        return _checked_base_url(base_url, sam_local=environ.get("AWS_SAM_LOCAL") == "true")
    edge, region = environ.get("TWILIO_EDGE", ""), environ.get("TWILIO_REGION", "")
    for name, label in (("TWILIO_EDGE", edge), ("TWILIO_REGION", region)):
        if label and not _HOST_LABEL.fullmatch(label):
            raise ConfigurationError(f"{name} is not a valid host name label")
    # An edge without a region means us1: https://www.twilio.com/docs/global-infrastructure/edge-locations
    # Twilio withdraws studio.{region}.twilio.com, so a region is never without an edge.
    if edge:
        region = region or "us1"
    elif region in _EDGES:
        edge = _EDGES[region]
    elif region == "us1":
        region = ""
    elif region:
        raise ConfigurationError(f"TWILIO_EDGE is required, unless TWILIO_REGION is us1, {', '.join(_EDGES)}")
    return "https://" + ".".join(filter(None, ("studio", edge, region, "twilio.com")))


def _checked_base_url(value: str, *, sam_local: bool) -> str:
    url = _split(value)
    if url is None or "@" in value:
        raise ConfigurationError("TWILIO_STUDIO_BASE_URL is not of the form https://host[:port]")
    # Credentials are in a header: without TLS they must not leave this machine.
    if url.scheme == "http" and not sam_local and not _is_loopback(url.hostname or ""):
        raise ConfigurationError("TWILIO_STUDIO_BASE_URL must be https:// unless its host is loopback")
    return f"{url.scheme}://{url.netloc.lower()}"


def _proxy_url(environ: Mapping[str, str], base_url: str) -> str | None:
    """The proxy to this server, chosen as boto3 does; http:// servers are local and need none."""

    def variable(name: str) -> str:
        return environ.get(name.lower(), environ.get(name, ""))

    value = variable("HTTPS_PROXY")
    if not value:
        return None
    url = _split(value if "://" in value else f"http://{value.removeprefix('//')}")
    if url is None or not unquote(url.netloc).isascii():
        raise ConfigurationError("HTTPS_PROXY is not of the form http://[user:password@]host[:port]")
    target = urlsplit(base_url)
    if target.scheme == "http" or proxy_bypass_environment(target.netloc, {"no": variable("NO_PROXY")}):
        return None
    return url.geturl()


def _split(value: str) -> SplitResult | None:
    """The parts of a URL that has only a scheme, user, password, host and port; None for any other."""
    try:
        url = urlsplit(value)
        is_valid = bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        return None
    is_valid = is_valid and url.scheme in ("http", "https") and not url.path.strip("/")
    return url if is_valid and _URL_CHARACTERS.fullmatch(value) and not set(value) & set("?#\\") else None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
