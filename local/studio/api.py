"""Twilio Studio's REST API v2, as far as it lists, fetches and ends Executions: requests in, answers out."""

import http.client
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast
from urllib.parse import urlencode

from local.studio.executions import AlreadyEndedError, Executions, NotFoundError, Paging, Status

_EXECUTIONS = re.compile(r"/v2/Flows/(FW[0-9a-fA-F]{32})/Executions(?:/(FN[0-9a-fA-F]{32}))?")
_PAGE_TOKEN = re.compile(r"P[AB]([0-9a-f]{32})")
_DEFAULT_PAGE_SIZE, _MAX_PAGE_SIZE = 50, 1000
_CODES = {400: 20001, 401: 20003, 404: 20404, 405: 20004, 409: 20409, 429: 20429, 500: 20500, 503: 20503}


@dataclass(slots=True)
class Request:
    """A request, and how it was answered."""

    request_id: str
    connection: int
    time: float
    method: str
    path: str
    query: dict[str, str]
    form: dict[str, str]
    headers: dict[str, str]
    """By names in lower case, without credentials."""
    user: str | None
    account_sid: str | None
    """Whose credentials came with it, valid or revoked; ``None``: unknown."""
    status: int | None = None
    """``None`` until it is answered, and if it never is."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; its body, if any, is JSON."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    items: int | None = None
    """How many Executions a page has; ``None`` for other answers."""


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.answer = problem(status, message)


def respond(executions: Executions, request: Request, base_url: str, paging: Paging) -> Answer:
    """Carry out a request whose credentials are valid. An account does not see the Flows of others.

    Args:
        executions: Those that there are; ending changes them.
        request: The request.
        base_url: Where the client reaches the API, for the URLs in the answer.
        paging: How lists are continued.
    """
    try:
        return _operate(executions, request, base_url, paging)
    except _RefusedError as refused:
        return refused.answer
    except NotFoundError:
        return problem(404, f"The requested resource {request.path} was not found")
    except AlreadyEndedError as error:
        return problem(409, f"Execution {error} is already ended")


def document(status: int, content: object) -> Answer:
    """An answer with this JSON."""
    return Answer(status, json.dumps(content).encode())


def problem(status: int, message: str | None = None, code: int | None = None) -> Answer:
    """An error in Twilio's format, by default with the status's own code and text."""
    code = code or _CODES.get(status, 20000 + status)
    content = {
        "code": code,
        "message": message or http.client.responses.get(status, "Error"),
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    headers = (
        (("WWW-Authenticate", 'Basic realm="Twilio API"'),) if status == http.HTTPStatus.UNAUTHORIZED else ()
    )
    return Answer(status, json.dumps(content).encode(), headers)


def flow_of(path: str) -> str | None:
    """The Flow in a request's path."""
    match = _EXECUTIONS.fullmatch(path)
    return match and match[1]


def _operate(executions: Executions, request: Request, base_url: str, paging: Paging) -> Answer:
    if not (match := _EXECUTIONS.fullmatch(request.path)):
        raise NotFoundError(request.path)
    flow_sid, sid = match.groups()
    if executions.account_of(flow_sid) != request.account_sid:
        raise NotFoundError(flow_sid)
    match request.method, sid:
        case "GET", None:
            return _list(executions, request, flow_sid, base_url, paging)
        case "GET", str():
            return Answer(200, executions.get(flow_sid, sid).to_json(base_url))
        case "POST", str():
            executions.get(flow_sid, sid)
            if request.form.get("Status") != "ended":
                raise _RefusedError(400, "Status must be 'ended'")
            return Answer(200, executions.end(flow_sid, sid).to_json(base_url))
    return problem(405)


def _list(executions: Executions, request: Request, flow_sid: str, base_url: str, paging: Paging) -> Answer:
    """A page. The token alone decides the place; ``Page`` is the client's own counter."""
    query = request.query
    status = query.get("status")
    if status not in {None, "active", "ended"}:
        raise _RefusedError(400, "status must be 'active' or 'ended'")
    size = _number(query, "PageSize", _DEFAULT_PAGE_SIZE)
    if not 1 <= size <= _MAX_PAGE_SIZE:
        raise _RefusedError(400, f"PageSize must be between 1 and {_MAX_PAGE_SIZE}")
    page = _number(query, "Page", 0)
    token = query.get("PageToken")
    if not (match := _PAGE_TOKEN.fullmatch(token or f"PA{0:032x}")):
        raise _RefusedError(400, "Invalid PageToken")
    found, following, previous = executions.page(
        flow_sid,
        status=cast("Status | None", status),
        created_from=_instant(query, "DateCreatedFrom"),
        created_to=_instant(query, "DateCreatedTo"),
        token=int(match[1], 16),
        size=size,
        paging=paging,
    )
    filters = {name: query[name] for name in ("status", "DateCreatedFrom", "DateCreatedTo") if name in query}

    def url(page: int, token: str | None = None) -> str:
        place = {"PageSize": size, "Page": page} | ({"PageToken": token} if token else {})
        return f"{base_url}{request.path}?{urlencode(filters | place)}"

    meta = {
        "page": page,
        "page_size": size,
        "first_page_url": url(0),
        "previous_page_url": None if previous is None else url(max(0, page - 1), f"PB{previous:032x}"),
        "url": url(page, token),
        "next_page_url": None if following is None else url(page + 1, f"PA{following:032x}"),
        "key": "executions",
    }
    items = b", ".join(execution.to_json(base_url) for execution in found)
    return Answer(
        200, b'{"meta": %s, "executions": [%s]}' % (json.dumps(meta).encode(), items), items=len(found)
    )


def _number(query: dict[str, str], name: str, default: int) -> int:
    value = query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise _RefusedError(400, f"{name} must be a number")
    return int(value)


def _instant(query: dict[str, str], name: str) -> datetime | None:
    if name not in query:
        return None
    try:
        instant = datetime.fromisoformat(query[name])
    except ValueError:
        raise _RefusedError(400, f"{name} must be an ISO 8601 date-time") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
