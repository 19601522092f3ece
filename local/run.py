"""``make run``: send one event through the function, with stand-ins for AWS and Twilio."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local import poller, rie, samples
from local.rie import Outcome
from local.samples import Seeded
from local.signing import renewed
from local.stand_ins import StandIns, stand_ins
from local.studio import Execution
from local.terminal import interruptible, styled

_MAX_LENGTH = 300
_REFUSALS = {"InvalidRequest", "FlowNotAllowed", "ExecutionNotFound"}


def run(path: Path, *, verbose: bool) -> bool:
    """Send the event, print the result and how it came about, and return whether it is the expected one."""
    event = renewed(samples.load(path))
    handler, timeout = (rie.SWEEP_HANDLER, 900) if samples.is_sweep(event) else (rie.HANDLER, 30)
    with stand_ins() as ready, rie.function(ready.environment, handler, timeout) as function:
        seeded = samples.seed(ready.studio, event)
        sent = time.perf_counter()
        outcome = function.invoke(event)
        milliseconds = round((time.perf_counter() - sent) * 1000)
        queued = poller.poll(ready, function)
        expected, verdict = judge(outcome, seeded)
        print(styled(f"{verdict}\n", "green" if expected else "red"))
        if function.note:
            print(styled(f"Note: {function.note}.\n", "bold"))
        _print("Executions", *_table([*seeded.to_end, *seeded.to_stay]))
        _print(f"Answer ({milliseconds} ms, with a cold start)", _pretty(outcome.answer))
        if queued:
            _print("Answer to the batch from the queue", _pretty(queued.answer))
        _print("Requests to Twilio", *_requests(ready))
        if letters := _dead_letters(ready):
            _print("Dead letters", *letters)
        if outcomes := ready.new_outcomes():
            _print("Outcome events", *map(_pretty, outcomes))
        written = Outcome(None, [*outcome.lines, *(queued.lines if queued else ())])
        _print("Logs", *written.logs)
        _print("Metrics", *_metrics(written))
    if verbose:
        _print(f"Event: {path}", _pretty(event))
    else:
        print(styled(f"Event: {path} (VERBOSE=1 shows it)", "dim"))
    return expected


def judge(outcome: Outcome, seeded: Seeded) -> tuple[bool, str]:
    """Whether the outcome is the expected one, and a sentence about it."""
    status = outcome.answer.get("statusCode") if isinstance(outcome.answer, dict) else None
    is_refused = outcome.error in _REFUSALS or status in range(400, 500)
    active = [execution.sid for execution in seeded.to_end if execution.status == "active"]
    to_stay = [*seeded.to_stay, *(seeded.to_end if is_refused else ())]
    if ended := [execution.sid for execution in to_stay if execution.status == "ended"]:
        return False, f"Wrong: ended {', '.join(ended)}, which must stay active."
    if is_refused:
        return True, "OK: the event was rejected, and nothing ended."
    if outcome.error or status in range(500, 600):
        return False, "Wrong: the function failed."
    if active:
        return False, f"Wrong: {', '.join(active)} is still active."
    return True, f"OK: {len(seeded.to_end) or 'nothing'} ended."


def _print(title: str, *lines: str) -> None:
    print(styled(title, "bold"))
    for line in "\n".join(lines or ("none",)).split("\n"):
        print(f"  {line}")
    print()


def _pretty(document: object) -> str:
    return json.dumps(_unfolded(document), indent=2, ensure_ascii=False)


def _unfolded(value: object) -> object:
    """The same for reading: JSON inside strings is unfolded, what is very long is cut."""
    match value:
        case dict():
            return {key: _unfolded(item) for key, item in value.items()}
        case list():
            return [_unfolded(item) for item in value]
        case str() if value.startswith("{"):
            try:
                return _unfolded(json.loads(value))
            except (ValueError, RecursionError):
                pass
    if isinstance(value, str) and len(value) > _MAX_LENGTH:
        return f"{value[:_MAX_LENGTH]}… ({len(value)} characters)"
    return value


def _table(executions: list[Execution]) -> Iterator[str]:
    """Every Execution, all of them active before the event."""
    for execution in executions:
        became = "active -> ended" if execution.status == "ended" else "stays active   "
        style = "green" if execution.status == "ended" else "dim"
        created = execution.to_dict("")["date_created"]
        yield f"{execution.sid}  {styled(became, style)}  created {created}  {execution.contact}"


def _requests(ready: StandIns) -> Iterator[str]:
    for request in ready.studio.requests:
        if request.user is None:
            # It only opened the connection ahead of time.
            continue
        form = "&".join(f"{name}={value}" for name, value in (request.query | request.form).items())
        yield f"{request.method} {request.path} {form}  {request.status}"


def _dead_letters(ready: StandIns) -> list[str]:
    received = ready.aws.client("sqs").receive_message(
        QueueUrl=ready.dead_letter_queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
    )
    return [_pretty(_letter(message)) for message in received.get("Messages", [])]


def _letter(message: Any) -> dict[str, object]:  # noqa: ANN401 -- boto3's own type has a name of four words
    attributes = message.get("MessageAttributes", {})
    return {
        **{name: attribute.get("StringValue") for name, attribute in attributes.items()},
        "body": message["Body"],
    }


def _metrics(outcome: Outcome) -> Iterator[str]:
    for document in outcome.metrics:
        for directive in document["_aws"]["CloudWatchMetrics"]:
            dimensions = " ".join(
                f"{name}={document[name]}" for names in directive["Dimensions"] for name in names
            )
            for metric in directive["Metrics"]:
                values = document[metric["Name"]]
                text = ", ".join(f"{value:g}" for value in (values if isinstance(values, list) else [values]))
                yield f"{metric['Name']}  {text} {metric['Unit']}  ({directive['Namespace']}: {dimensions})"


def main() -> None:
    """Run the event that is named on the command line."""
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("event", type=Path)
    path = parser.parse_args().event
    verbose = os.environ.get("VERBOSE", "0") not in {"", "0"}
    with interruptible():
        try:
            sys.exit(0 if run(path, verbose=verbose) else 1)
        except (OSError, ValueError) as error:
            sys.exit(f"{path}: {error}")
    sys.exit("interrupted")


if __name__ == "__main__":
    main()
