"""An HTTP request in either of API Gateway's payload formats: 2.0 (HTTP API) or 1.0 (REST API).

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from end_conversation.command import from_milliseconds
from end_conversation.errors import InvalidRequest, RequestRejected

if TYPE_CHECKING:
    from datetime import datetime


SOURCE_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)

FORM = "application/x-www-form-urlencoded"


class UnsupportedMediaType(RequestRejected):
    """The route does not accept the body's content type."""

    code = "unsupported_media_type"


class InvalidSignature(RequestRejected):
    """The request has no valid proof; only the log says why.

    Attributes:
        cause: one of ours, nothing that the sender chose.
    """

    code = "invalid_signature"

    def __init__(self, cause: str) -> None:
        super().__init__("the request has no valid signature")
        self.cause = cause

    @property
    def facts(self) -> dict[str, int | str | None]:
        """The cause."""
        return {"cause": self.cause}

    @property
    def is_by_secret(self) -> bool:
        """Whether a newer secret might accept the request: nothing else is wrong with it."""
        return self.cause in ("signature_unknown", "source_unknown")


class HttpRequest:
    """The parts of a request that are used.

    Attributes:
        method: in upper case; None if the event did not come through a route.
        route: path of the matching route (`/webhooks/{source}`), not of the URL.
        request_id: API Gateway's.
        sent_at: when the gateway received it.
        source: the path parameter `{source}`, if it is a valid name.
    """

    def __init__(self, event: dict[str, Any]) -> None:
        self._event = event
        self.method, self.route = _method_and_route(event)
        context = event.get("requestContext")
        context = context if isinstance(context, dict) else {}
        request_id = context.get("requestId")
        self.request_id: str | None = request_id if isinstance(request_id, str) else None
        self.sent_at: datetime | None = from_milliseconds(
            context.get("timeEpoch", context.get("requestTimeEpoch"))
        )
        parameters = event.get("pathParameters")
        source = parameters.get("source") if isinstance(parameters, dict) else None
        is_name = isinstance(source, str) and SOURCE_NAME.fullmatch(source)
        self.source: str | None = source if is_name else None

    def header(self, name: str) -> list[str]:
        """All values of the header with this lower-case name.

        An HTTP API joins repeated headers with commas into one value.
        """
        for headers in (self._event.get("multiValueHeaders"), self._event.get("headers")):
            if isinstance(headers, dict):
                found = [value for key, value in headers.items() if key.lower() == name]
                values = [one for value in found for one in (value if isinstance(value, list) else [value])]
                if texts := [value for value in values if isinstance(value, str)]:
                    return texts
        return []

    @property
    def media_type(self) -> str:
        """The content type in lower case, without its parameters; empty if there is none."""
        return "".join(self.header("content-type")[:1]).partition(";")[0].strip().lower()

    def url(self, base_url: str | None = None) -> str:
        """The URL that the caller requested and may have signed, with its raw query.

        An HTTP API has the stage in `rawPath`, a REST API in the context's `path`. Neither has an HTTP API's
        mapping of a custom domain. A REST API decodes the query; it is encoded again.

        Args:
            base_url: replaces `https://`, the host and the path before the route.
        """
        match self._event:
            case {
                "rawPath": str(path),
                "rawQueryString": str(query),
                "requestContext": {"domainName": str(host)},
            }:
                pass
            case {"requestContext": {"path": str(path), "domainName": str(host)}}:
                parameters = self._event.get("multiValueQueryStringParameters")
                parameters = parameters if isinstance(parameters, dict) else {}
                query = urlencode(parameters, doseq=True, quote_via=quote, errors="replace")
            case _:
                host = path = query = ""
        if base_url is not None:
            path = (self.route or "").replace("{source}", self.source or "")
        url = f"{base_url or f'https://{host}'}{path}" + (f"?{query}" if query else "")
        # Replace lone surrogates, which no URL can contain.
        return url.encode(errors="replace").decode()

    @property
    def is_form(self) -> bool:
        """Whether the content type is that of a form."""
        return self.media_type == FORM

    def body(self) -> bytes:
        """The body as the caller sent it, in bytes.

        Raises:
            InvalidRequest: the event says base64, but it is not.
        """
        match self._event:
            case {"body": str(body), "isBase64Encoded": True}:
                try:
                    return b64decode(body, validate=True)
                except ValueError:
                    raise InvalidRequest("the body is not valid base64") from None
            case {"body": str(body)}:
                # Lone surrogates, which no caller can send, are for the JSON parser to reject.
                return body.encode(errors="surrogatepass")
        return b""


def _method_and_route(event: dict[str, Any]) -> tuple[str | None, str | None]:
    match event:
        case {"routeKey": str(route_key), "requestContext": {"http": {"method": str(method)}}}:
            return method, route_key.partition(" ")[2]
        case {"httpMethod": str(method), "resource": str(route)}:
            return method, route
    return None, None
