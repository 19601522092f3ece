"""An HTTP request as a value, independent of the event format."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from end_conversation.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

SOURCE_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
"""Names of sources, for `fullmatch`."""

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The parts of a request that are used.

    Attributes:
        method: in upper case; None if it did not come through a route.
        route: path of the matching route (`/webhooks/{source}`), not of the URL.
        source: the path parameter `{source}`, if it is a valid name.
        request_id: the gateway's.
        sent_at: when the gateway received it.
        headers: all values by lower-case name.
        host: of the URL that the caller requested.
        path: of that URL, with the stage.
        query: of that URL, as sent.
        content: the body's bytes; None if they cannot be decoded.
    """

    method: str | None = None
    route: str | None = None
    source: str | None = None
    request_id: str | None = None
    sent_at: datetime | None = None
    headers: Mapping[str, list[str]] = field(default_factory=dict, repr=False)
    host: str = ""
    path: str = ""
    query: str = field(default="", repr=False)
    content: bytes | None = field(default=b"", repr=False)

    def header(self, name: str) -> list[str]:
        """All values of the header with this lower-case name.

        An HTTP API joins repeated headers with commas into one value.
        """
        return self.headers.get(name, [])

    @property
    def media_type(self) -> str:
        """The content type in lower case, without its parameters; empty if there is none."""
        return "".join(self.header("content-type")[:1]).partition(";")[0].strip().lower()

    @property
    def is_json(self) -> bool:
        """Whether the content type is one of JSON (RFC 6839), or missing."""
        return self.media_type in ("", "application/json") or self.media_type.endswith("+json")

    @property
    def is_form(self) -> bool:
        """Whether the content type is that of a form."""
        return self.media_type == FORM

    def url(self, base_url: str | None = None) -> str:
        """The URL that the caller requested and may have signed.

        Args:
            base_url: replaces `https://`, the host and the path before the route.
        """
        path = self.path
        if base_url is not None:
            path = (self.route or "").replace("{source}", self.source or "")
        url = f"{base_url or f'https://{self.host}'}{path}" + (f"?{self.query}" if self.query else "")
        # Replace lone surrogates, which no URL can contain.
        return url.encode(errors="replace").decode()

    def body(self) -> bytes:
        """The body as the caller sent it.

        Raises:
            InvalidRequest: the gateway says base64, but it is not.
        """
        if self.content is None:
            raise InvalidRequest("the body is not valid base64")
        return self.content
