"""``make run``: one event through the function, with stand-ins for AWS and Twilio, and what came of it."""

import argparse
import json
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

_LONGEST = 300
_REFUSALS = {"InvalidRequest", "FlowNotAllowed", "ExecutionNotFound"}


def run(path: Path) -> bool:
    """Send the event, print what happens, and tell whether that is what one would expect."""
    event = renewed(samples.load(path))
    handler, timeout = (rie.SWEEP_HANDLER, 900) if samples.is_sweep(event) else (rie.HANDLER, 30)
    with stand_ins() as ready, rie.function(ready.environment, handler, timeout) as function:
        seeded = samples.seed(ready.studio, event)
        executions = [*seeded.to_end, *seeded.to_stay]
        _print(f"Event: {path}", _pretty(event))
        if function.note:
            print(styled(f"Note: {function.note}.\n", "bold"))
        _print("Executions before", *_table(executions))
        sent = time.perf_counter()
        outcome = function.invoke(event)
        milliseconds = round((time.perf_counter() - sent) * 1000)
        _print(f"Answer, after {milliseconds} ms with a cold start", _pretty(outcome.answer))
        lines = list(outcome.lines)
        if queued := poller.poll(ready, function):
            _print("Answer to the batch from the queue", _pretty(queued.answer))
            lines += queued.lines
        _print("Executions after", *_table(executions))
        _print("What Twilio was asked", *_requests(ready))
        if letters := _dead_letters(ready):
            _print("Dead letters", *letters)
        if outcomes := ready.new_outcomes():
            _print("Outcome events", *map(_pretty, outcomes))
        written = Outcome(None, lines)
        _print("Logs", *written.logs)
        _print("Metrics", *_metrics(written))
        expected, verdict = judge(outcome, seeded)
    print(styled(verdict, "green" if expected else "red"))
    return expected


def judge(outcome: Outcome, seeded: Seeded) -> tuple[bool, str]:
    """Whether the answer is what one would expect, and why."""
    status = outcome.answer.get("statusCode") if isinstance(outcome.answer, dict) else None
    is_refused = outcome.error in _REFUSALS or status in range(400, 500)
    active = [execution.sid for execution in seeded.to_end if execution.status == "active"]
    to_stay = [*seeded.to_stay, *(seeded.to_end if is_refused else ())]
    if ended := [execution.sid for execution in to_stay if execution.status == "ended"]:
        return False, f"Ended, and must not be: {', '.join(ended)}."
    if is_refused:
        return True, "The event is refused, and nothing is ended."
    if outcome.error or status in range(500, 600):
        return False, "The function failed."
    if active:
        return False, f"Still active: {', '.join(active)}."
    return True, "Every Execution is as it should be."


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
    if isinstance(value, str) and len(value) > _LONGEST:
        return f"{value[:_LONGEST]}… ({len(value)} characters)"
    return value


def _table(executions: list[Execution]) -> Iterator[str]:
    for execution in executions:
        shown = execution.to_dict("")
        status = styled(f"{execution.status:6}", "red" if execution.status == "active" else "green")
        yield (
            f"{execution.sid}  {status}  {execution.contact}  created {shown['date_created']}"
            f"  updated {shown['date_updated']}"
        )


def _requests(ready: StandIns) -> Iterator[str]:
    for request in ready.studio.requests:
        if request.user is None:
            # The connection was opened ahead of time; nothing was asked.
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
    parser = argparse.ArgumentParser(description="Send one event through the function.")
    parser.add_argument("event", type=Path)
    path = parser.parse_args().event
    with interruptible():
        try:
            sys.exit(0 if run(path) else 1)
        except (OSError, ValueError) as error:
            sys.exit(f"{path}: {error}")
    sys.exit("interrupted")


if __name__ == "__main__":
    main()
