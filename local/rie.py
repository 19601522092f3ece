"""A Lambda function on this machine, under AWS's own Runtime Interface Emulator where that runs.

The emulator's binary is inside the aws-sam-cli wheel, the runtime client is awslambdaric. Where one of them
is missing, or the system is not Linux, the handler is called in this process instead, and ``note`` says so.
"""

import contextlib
import http.client
import importlib
import importlib.util
import io
import json
import os
import platform
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, NamedTuple, Self

HANDLER = "end_conversation.app.handler"
SWEEP_HANDLER = "end_conversation.sweep.handler"
SOURCE = Path(__file__).parent.parent / "src"
MAX_EVENT_BYTES = 6 * 1024 * 1024

_FUNCTION_NAME = "EndConversationFunction"
_MEMORY_MB = 256
_INVOCATIONS = "/2015-03-31/functions/function/invocations"
_PLATFORM_LINE = re.compile(r"(START|END|REPORT) RequestId: ")


class Outcome(NamedTuple):
    """The result of one invocation, and the lines that it wrote: logs and metrics."""

    answer: Any
    lines: list[str]

    @property
    def error(self) -> str | None:
        """The error's type, if the function raised, exited or timed out."""
        match self.answer:
            case {"errorType": str(kind), "errorMessage": _}:
                return kind
        return None

    @property
    def logs(self) -> list[str]:
        """The lines other than metrics."""
        return [line for line in self.lines if _metrics(line) is None]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The metrics, in CloudWatch's embedded metric format."""
        return [document for line in self.lines if (document := _metrics(line)) is not None]


class Emulated:
    """The function under the Runtime Interface Emulator, as a context manager. It takes one event at a time.

    Args:
        environment: The function's environment variables, besides those that Lambda sets.
        handler: The handler's dotted name.
        path: The function's code: the sources, or what ``sam build`` made of them.
        python: The interpreter; awslambdaric must be there, and what ``path`` lacks.
        timeout: Seconds that an invocation may take.
    """

    note: str | None = None

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        handler: str = HANDLER,
        path: Path = SOURCE,
        python: str | Path = sys.executable,
        timeout: int = 30,
    ) -> None:
        self._handler = handler
        self._path = path.resolve()
        self._python = str(python)
        self._timeout = timeout
        self._environment = _environment(self._path, timeout) | dict(environment)
        self._lock = threading.Lock()
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as resources:
            directory = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="rie-")))
            invoke_port, runtime_port = _free_ports(2)
            self._address = ("127.0.0.1", invoke_port)
            command = [
                str(_executable(directory)),
                "--runtime-interface-emulator-address",
                f"127.0.0.1:{invoke_port}",
                "--runtime-api-address",
                f"127.0.0.1:{runtime_port}",
                *(self._python, "-m", "awslambdaric", self._handler),
            ]
            # The function writes to the emulator's standard output itself, and all of it before its answer
            # comes; so a file has every line in time, where a pipe would need a thread and a guess.
            output = resources.enter_context((directory / "output").open("wb"))
            errors = resources.enter_context((directory / "errors").open("wb"))
            self._output = resources.enter_context(
                (directory / "output").open(encoding="utf-8", errors="replace")
            )
            self._process = subprocess.Popen(  # noqa: S603 -- the command is ours
                command,
                cwd=self._path,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                # Ctrl-C at the terminal is for this process, which stops the emulator.
                start_new_session=True,
            )
            resources.callback(self._stop)
            self._wait_until_ready(directory / "errors")
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def invoke(self, event: object) -> Outcome:
        """Send an event, and wait for the outcome.

        Raises:
            ValueError: The event is larger than Lambda takes.
        """
        payload = _payload(event)
        with self._lock:
            connection = http.client.HTTPConnection(*self._address, timeout=self._timeout + 30)
            with contextlib.closing(connection):
                connection.request("POST", _INVOCATIONS, payload)
                answer = connection.getresponse().read().decode()
            written = self._output.read()
        try:
            content = json.loads(answer)
        except ValueError:
            # Lambda's own error, with the emulator's text.
            content = {"errorType": "Sandbox.Timedout", "errorMessage": answer}
        return Outcome(content, _lines(written))

    def _wait_until_ready(self, errors: Path) -> None:
        give_up = time.monotonic() + 10
        while self._process.poll() is None and time.monotonic() < give_up:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(self._address):
                return
            time.sleep(0.005)
        raise RuntimeError(f"the Runtime Interface Emulator did not start: {errors.read_text()[-2000:]}")

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class InProcess:
    """The function in this process, as a context manager: without the emulator, nothing enforces the timeout.

    Args:
        environment: The function's environment variables, besides those that Lambda sets.
        handler: The handler's dotted name.
        path: The function's code.
        timeout: Seconds that the context object counts down from.
        note: A sentence for the user.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        handler: str = HANDLER,
        path: Path = SOURCE,
        timeout: int = 30,
        note: str | None = None,
    ) -> None:
        self.note = note
        self._handler = handler
        self._path = path.resolve()
        self._timeout = timeout
        self._environment = _environment(self._path, timeout) | dict(environment)
        self._lock = threading.Lock()
        # A logger keeps the stream of the time when it was made, so there is one for all invocations.
        self._output = io.StringIO()

    def __enter__(self) -> Self:
        self._before = dict(os.environ)
        os.environ.update(self._environment)
        sys.path.insert(0, str(self._path))
        module, _, name = self._handler.rpartition(".")
        with contextlib.redirect_stdout(self._output):
            self._function = getattr(importlib.import_module(module), name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.path.remove(str(self._path))
        os.environ.clear()
        os.environ.update(self._before)

    def invoke(self, event: object) -> Outcome:
        """Call the handler with an event.

        Raises:
            ValueError: The event is larger than Lambda takes.
        """
        received = json.loads(_payload(event))
        with self._lock, contextlib.redirect_stdout(self._output):
            try:
                answer = json.loads(json.dumps(self._function(received, _context(self._timeout))))
            except Exception as error:  # noqa: BLE001 -- as Lambda's runtime does
                answer = {
                    "errorMessage": str(error),
                    "errorType": type(error).__name__,
                    "stackTrace": traceback.format_tb(error.__traceback__),
                }
            written = self._output.getvalue()
            self._output.seek(0)
            self._output.truncate()
        return Outcome(answer, _lines(written))


@contextlib.contextmanager
def function(
    environment: Mapping[str, str], handler: str = HANDLER, timeout: int = 30
) -> Iterator[Emulated | InProcess]:
    """The function as close to Lambda as this machine allows: its sources, under the emulator.

    Args:
        environment: As for ``Emulated``.
        handler: As for ``Emulated``.
        timeout: As for ``Emulated``.
    """
    if reason := missing():
        note = f"the handler runs in this process, not under Lambda's Runtime Interface Emulator: {reason}"
        with InProcess(environment, handler=handler, timeout=timeout, note=note) as in_process:
            yield in_process
        return
    with Emulated(environment, handler=handler, timeout=timeout) as emulated:
        yield emulated


def missing() -> str | None:
    """Why the emulator cannot run here; ``None`` if it can."""
    if sys.platform != "linux":
        return f"it does not run on {platform.system()}"
    if not _emulator():
        return f"aws-sam-cli has none for {platform.machine()}"
    if not importlib.util.find_spec("awslambdaric"):
        return "awslambdaric is not installed"
    return None


def _emulator() -> Path | None:
    samcli = importlib.util.find_spec("samcli")
    architecture = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine())
    if samcli is None or not samcli.submodule_search_locations:
        return None
    binary = Path(samcli.submodule_search_locations[0], "local", "rapid", f"aws-lambda-rie-{architecture}")
    return binary if binary.exists() else None


def _executable(directory: Path) -> Path:
    """The emulator; a copy, if an installer dropped the executable bit."""
    binary = _emulator()
    if binary is None:
        raise RuntimeError(f"no Runtime Interface Emulator: {missing()}")
    if not os.access(binary, os.X_OK):
        binary = Path(shutil.copy(binary, directory))
        binary.chmod(0o700)
    return binary


def _environment(path: Path, timeout: int) -> dict[str, str]:
    """What Lambda sets, and nothing from the caller's environment, so that it works alike everywhere."""
    return {
        "PATH": os.defpath,
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PYTHONPATH": str(path),
        # Lambda's /var/task is read-only.
        "PYTHONDONTWRITEBYTECODE": "1",
        "LAMBDA_TASK_ROOT": str(path),
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "AWS_LAMBDA_FUNCTION_NAME": _FUNCTION_NAME,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(_MEMORY_MB),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        # boto3 looks into the home directory otherwise, whose settings could lead to the real AWS.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _context(timeout: int) -> SimpleNamespace:
    end = time.monotonic() + timeout
    return SimpleNamespace(
        aws_request_id=str(uuid.uuid4()),
        function_name=_FUNCTION_NAME,
        function_version="$LATEST",
        invoked_function_arn=f"arn:aws:lambda:us-east-1:012345678912:function:{_FUNCTION_NAME}",
        memory_limit_in_mb=str(_MEMORY_MB),
        log_group_name=f"/aws/lambda/{_FUNCTION_NAME}",
        log_stream_name="$LATEST",
        get_remaining_time_in_millis=lambda: max(0, int((end - time.monotonic()) * 1000)),
    )


def _payload(event: object) -> bytes:
    payload = json.dumps(event).encode()
    if len(payload) > MAX_EVENT_BYTES:
        raise ValueError(f"Lambda takes events of up to {MAX_EVENT_BYTES} bytes; this one has {len(payload)}")
    return payload


def _lines(written: str) -> list[str]:
    lines = written.replace("\r", "\n").split("\n")
    return [line for line in lines if line.strip() and not _PLATFORM_LINE.match(line)]


def _metrics(line: str) -> dict[str, Any] | None:
    try:
        document = json.loads(line)
    except ValueError:
        return None
    return document if isinstance(document, dict) and "_aws" in document else None


def _free_ports(number: int) -> list[int]:
    """Ports that are free, and stay free for the emulator: Linux gives other sockets ports from 32768."""
    with contextlib.ExitStack() as sockets:
        found: list[int] = []
        while len(found) < number:
            port = random.randrange(10_000, 32_000)  # noqa: S311 -- not secret
            with contextlib.suppress(OSError):
                sockets.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
        return found
