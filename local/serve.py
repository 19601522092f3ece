"""``make serve``: the function behind an HTTP endpoint, with stand-ins for AWS and Twilio."""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from end_conversation.webhooks.sources import parse_webhook_secret
from local import poller, rie, samples, signing
from local.gateway import Response, event_of, refusal, response_of
from local.page import SENDERS, Page, summary
from local.rie import MAX_EVENT_BYTES, Emulated, InProcess, Outcome
from local.stand_ins import StandIns, stand_ins
from local.studio import ACCOUNT_SID, API_KEY
from local.terminal import interruptible, styled

_MAX_BODY_BYTES = 10 * 1024 * 1024


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, function: Emulated | InProcess, page: Page | None) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        self.function = function
        self.page = page


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def answer(self) -> None:
        begin = time.perf_counter()
        response = self.respond()
        self.send_response(response.status)
        for name, value in response.headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else response.body)
        if self.page:
            return
        milliseconds = round((time.perf_counter() - begin) * 1000)
        status = styled(str(response.status), "green" if response.status < 400 else "red")  # noqa: PLR2004 -- HTTP's errors
        print(
            f"{self.log_date_time_string()}  {self.command} {self.path}  {status}  {milliseconds} ms"
            f"  {styled(summary(response.body), 'dim')}",
            flush=True,
        )

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Respond to any method, as API Gateway does."""
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def respond(self) -> Response:
        if refused := self.refused():
            self.close_connection = True
            return refused
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.page:
            return self.page.respond(self.command, self.path, body)
        page, target = self.server.page, self.path
        is_to_be_proved = page is not None and target.startswith(SENDERS)
        if is_to_be_proved:
            target = f"/webhooks/{target.removeprefix(SENDERS)}"
        event = event_of(self.command, target, self._sent_headers(body), body, self.client_address[0])
        if event is None:
            return refusal(404, "Not Found")
        if len(json.dumps(event)) > MAX_EVENT_BYTES:
            return refusal(413, "Request Entity Too Large")
        if page:
            if is_to_be_proved:
                page.prove(event)
            page.sending()
        response = response_of(self.server.function.invoke(event), event["requestContext"]["requestId"])
        if page:
            page.received(event, response)
        return response

    def _sent_headers(self, body: bytes) -> Iterator[tuple[str, str]]:
        """The headers, with the content type that curl does not set for JSON."""
        for name, value in self.headers.items():
            is_json = self.path.startswith(SENDERS) and body.lstrip()[:1] in {b"{", b"["}
            yield name, "application/json" if is_json and name.lower() == "content-type" else value

    def refused(self) -> Response | None:
        """The response to a request whose body is not read."""
        length = self.headers.get("Content-Length") or "0"
        if "Transfer-Encoding" in self.headers:
            return refusal(411, "Length Required")
        if not length.isdecimal():
            return refusal(400, "Bad Request")
        if int(length) > _MAX_BODY_BYTES:
            return refusal(413, "Request Entity Too Large")
        return None

    @property
    def page(self) -> Page | None:
        """The page, if the request is for it."""
        page = self.server.page
        return page if page and page.has(self.path) else None

    def log_message(self, *_: object) -> None:
        """Print nothing: each request to the API already has its line."""


@contextlib.contextmanager
def endpoint(port: int, function: Emulated | InProcess, page: Page | None = None) -> Iterator[str]:
    """An HTTP endpoint for the function; yields its URL."""
    with _Server(port, function, page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def serving(port: int, ready: StandIns, function: Emulated | InProcess) -> Iterator[str]:
    """The same with the page, and with the queue that the function consumes."""
    page = Page(ready)

    def on_batch(outcome: Outcome) -> None:
        page.consumed(outcome)
        for line in outcome.logs:
            print(styled(f"queue  {line}", "dim"), flush=True)

    with poller.polling(ready, function, on_batch), endpoint(port, function, page) as url:
        yield url


def _introduction(url: str, ready: StandIns, note: str | None, secret: Path | None) -> Iterator[str]:
    if note:
        yield f"Note: {note}."
    yield f"Open {styled(url, 'bold')} in a browser, or end an Execution with curl:"
    yield ""
    own = [one for one in ready.studio.executions.all("active") if one.account_sid == ACCOUNT_SID]
    for execution, more in zip(own[:2], ("", " -H 'prefer: respond-async'"), strict=False):
        command = json.dumps({"flow_sid": execution.flow_sid, "execution_sid": execution.sid})
        yield f"  curl -i {url}/conversations/end -H 'content-type: application/json'{more} -d '{command}'"
    yield ""
    if secret:
        yield f"The sources in {secret}; these requests are signed as the sender would sign them:"
        yield ""
        for name in parse_webhook_secret(json.dumps(ready.webhook_secret)).sources:
            yield f"  curl -i {url}{SENDERS}{name} --data-binary @webhook.json"
    else:
        yield f"Webhooks ({url}{signing.ROUTE}) are signed with {signing.KEY}."
        yield f"Sources: {', '.join(ready.webhook_secret['sources'])}; SECRET=my.json serves yours."
    yield ""
    yield f"Twilio Studio: {ready.studio.url}   AWS: {ready.aws.url}"
    for execution in own[:1]:
        yield f"  curl -u {':'.join(API_KEY)} {execution.to_dict(ready.studio.url)['url']}"
    fault = json.dumps({"status": 429, "headers": {"Retry-After": "60"}, "times": 3})
    yield f"  curl -d '{fault}' {ready.studio.url}/_faults   # throttle the next 3 requests"
    yield ""
    yield "Press Ctrl-C to stop."


def read_secret(path: Path | None) -> dict[str, Any]:
    """The content of the webhook secret: a file's, or the sample's."""
    if path is None:
        return signing.SECRET
    try:
        text = path.read_text(encoding="utf-8")
        parsed = parse_webhook_secret(text)
    except (OSError, ValueError) as error:
        sys.exit(f"{path}: {error}")
    for name, reason in parsed.invalid.items():
        print(styled(f"{path}: the source {name} is invalid: {reason}", "red"))
    content: dict[str, Any] = json.loads(text)
    return {"keys": signing.SECRET["keys"], "sources": {}} | content


def main() -> None:
    """Serve until interrupted."""
    try:
        port = int(os.environ.get("PORT") or 8800)
    except ValueError:
        sys.exit("PORT must be a number")
    secret = Path(name) if (name := os.environ.get("SECRET")) else None
    webhook_secret = read_secret(secret)
    try:
        with (
            interruptible(),
            stand_ins(port + 1, port + 2, webhook_secret) as ready,
            rie.function(ready.environment) as function,
            serving(port, ready, function) as url,
        ):
            samples.seed_all(ready.studio)
            print("\n".join(_introduction(url, ready, function.note, secret)), flush=True)
            threading.Event().wait()
    except OSError as error:
        sys.exit(f"{error}: make serve needs ports {port} to {port + 2} of 127.0.0.1; PORT=… chooses others")


if __name__ == "__main__":
    main()
