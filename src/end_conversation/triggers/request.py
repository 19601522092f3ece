"""An HTTP request, as either payload format of API Gateway describes it: 2.0 (HTTP API) or 1.0 (REST API).

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
    """The body is declared to be something else than what the route takes."""

    code = "unsupported_media_type"


class InvalidSignature(RequestRejected):
    """Nothing proves that a holder of a key sent the request; what is wrong, only the log tells.

    Attributes:
        cause: a word of ours, and nothing that the sender chose.
    """

    code = "invalid_signature"

    def __init__(self, cause: str) -> None:
        super().__init__("the request is not signed as it has to be")
        self.cause = cause

    @property
    def facts(self) -> dict[str, int | str | None]:
        """The cause."""
        return {"cause": self.cause}

    @property
    def is_by_secret(self) -> bool:
        """Whether another secret might have let the request through, and nothing else is wrong with it."""
        return self.cause in ("signature_unknown", "source_unknown")


class HttpRequest:
    """What a caller sent, as far as anybody asks.

    Attributes:
        method: in capitals, as the gateway gives it; None if the event came through no route of an API.
        route: path of the route that matched (`/webhooks/{source}`), not just the path that was asked for.
        request_id: API Gateway's own.
        sent_at: when the gateway received it.
        source: what stood for `{source}` in the route, if that has it, and if it can be the name of one.
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
        """Every value of the header with this name in lower case.

        An HTTP API joins the values of repeated headers by commas, and gives them as one.
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
        """The URL that the caller asked for, as its signature has it: with its raw query.

        A stage of an HTTP API is in its `rawPath`, that of a REST API in its context's `path`. What maps a
        custom domain to an HTTP API is in neither. A REST API gives the query decoded: it is encoded again.

        Args:
            base_url: takes the place of `https://`, the host and all of the path before the route.
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
        # Without half of a surrogate pair, which no URL has and no signature is of.
        return url.encode(errors="replace").decode()

    @property
    def is_form(self) -> bool:
        """Whether the body is declared to be a form's fields."""
        return self.media_type == FORM

    def body(self) -> bytes:
        """What the caller sent, byte for byte.

        Raises:
            InvalidRequest: the event says that it is base64, and it is not.
        """
        match self._event:
            case {"body": str(body), "isBase64Encoded": True}:
                try:
                    return b64decode(body, validate=True)
                except ValueError:
                    raise InvalidRequest("the body is not base64, as the event says it is") from None
            case {"body": str(body)}:
                # Half of a surrogate pair, which no caller can send, is for the JSON parser to refuse.
                return body.encode(errors="surrogatepass")
        return b""


def _method_and_route(event: dict[str, Any]) -> tuple[str | None, str | None]:
    match event:
        case {"routeKey": str(route_key), "requestContext": {"http": {"method": str(method)}}}:
            return method, route_key.partition(" ")[2]
        case {"httpMethod": str(method), "resource": str(route)}:
            return method, route
    return None, None
