"""What the documents name exists: links, commands, settings, metrics, log messages, problems."""

import inspect
import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import takewhile
from math import prod
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.loaders import Loader
from jsonschema import Draft202012Validator
from samtranslator.yaml_helper import yaml_parse

import end_conversation
from end_conversation.triggers.responses import STATUS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/end_conversation"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob(".github/**/*.md"), *ROOT.glob("docs/**/*.md")])
}
MODULES = {path.name for path in PACKAGE.iterdir() if re.fullmatch(r"[a-z]\w*(\.py)?", path.name)}
TEMPLATE: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
SOURCES = "".join(path.read_text() for path in sorted(PACKAGE.rglob("*.py")))
SCHEMA: dict[str, Any] = json.loads((PACKAGE / "command.schema.json").read_text())
RELEASED: dict[str, Any] = json.loads((ROOT / "docs/released/command.schema.json").read_text())

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))

# Options of the AWS CLI itself.
OF_THE_CLI = {"cli-binary-format", "output", "query", "endpoint-url", "region"}


def prose(text: str) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", text)


def blocks(text: str, *languages: str) -> list[str]:
    """The code blocks in one of these languages, with continued lines as one."""
    return [re.sub(r"\\\n\s*", " ", code) for language, code in FENCE.findall(text) if language in languages]


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings of a page."""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} (.+)$", prose(text), re.MULTILINE):
        shown = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        repeated = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other) is not None for other in found)
        found.append(f"{slug}-{repeated}" if repeated else slug)
    return set(found)


def links() -> Iterator[tuple[str, str]]:
    """Every link that stays in the repository, with its page."""
    for page, text in PAGES.items():
        # Backticks may hold anything that looks like a link.
        for target in re.findall(r"\]\(([^)\s]+)\)", SPAN.sub("`…`", prose(text))):
            if not re.match(r"[a-z]+:", target):
                yield page, target


def table(page: str, head: str) -> list[list[str]]:
    """The rows of all tables of a page with this head."""
    _, *texts = PAGES[page].split(f"| {head} |\n")
    tables = [takewhile(lambda line: line.startswith("|"), text.splitlines()[1:]) for text in texts]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for lines in tables for line in lines]
    assert rows, (page, head)
    return rows


def names(cell: str) -> list[str]:
    """What a cell has in code font."""
    return SPAN.findall(cell)


@cache
def operation(service: str, name: str) -> set[str] | None:
    """The options of a command of the AWS CLI; None if there is no such command."""
    model = Loader().load_service_model(service, "service-2")
    for operation_name, each in model["operations"].items():
        if xform_name(operation_name, "-") == name:
            members = model["shapes"][each["input"]["shape"]]["members"]
            return {xform_name(member, "-") for member in members}
    return None


def test_one_version() -> None:
    """The description of the API has the version of pyproject.toml."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert yaml_parse((ROOT / "docs/openapi.yaml").read_text())["info"]["version"] == version


def test_the_readme_is_short() -> None:
    """A newcomer has to read 170 lines at most."""
    assert len(PAGES["README.md"].splitlines()) <= 170


@pytest.mark.parametrize(("page", "target"), sorted(set(links())))
def test_links_resolve(page: str, target: str) -> None:
    """The file is there, and the heading in it."""
    file, _, anchor = target.partition("#")
    path = ((ROOT / page).parent / file).resolve() if file else ROOT / page

    assert path.exists()
    assert not anchor or anchor in anchors(path.read_text())


def test_every_page_can_be_found() -> None:
    """From the README, link by link, each document in docs/ can be reached."""
    reached, new = set[str](), {"README.md"}
    while new:
        reached |= new
        new = {
            ((ROOT / page).parent / target.partition("#")[0]).resolve().relative_to(ROOT).as_posix()
            for page, target in links()
            if page in new
        } - reached

    assert {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.*")} <= reached


def test_make_targets_exist() -> None:
    """Each `make target` that a page names is one."""
    for page, text in PAGES.items():
        code = [*SPAN.findall(text), *blocks(text, "console", "sh")]
        named = {target for each in code for target in re.findall(r"\bmake ([a-z][a-z-]*)", each)}
        assert named <= TARGETS, page


def test_modules_are_named() -> None:
    """The table of modules in docs/architecture.md leaves none out."""
    rows = table("docs/architecture.md", "in `src/end_conversation` | knows")
    named = {name.rstrip("/") for row in rows for name in names(row[0])}

    assert named == MODULES


def test_commands_of_aws_exist() -> None:
    """Each command of the AWS CLI exists, and takes the options that it is given."""
    found = 0
    for page, text in PAGES.items():
        for code in [*blocks(text, "console", "sh"), *SPAN.findall(prose(text))]:
            for service, name, rest in re.findall(r"\baws ([a-z]+) ([a-z-]+)([^\n|]*)", code):
                options = operation(service, name)
                assert options is not None, (page, service, name)
                given = {each.removeprefix("no-") for each in re.findall(r" --([a-z-]+)", rest)}
                assert given <= options | OF_THE_CLI, (page, name)
                found += 1
    assert found > 20


def test_outputs_and_functions_exist() -> None:
    """`out Name` is an output of the stack, `invoke Name` a function, `--config-env name` in a file."""
    files = [ROOT / name for name in ("samplesconfig.toml", "docs/examples/deploy.toml")]
    known = {name for file in files for name in re.findall(r"^\[([a-z-]+)\.", file.read_text(), re.MULTILINE)}
    for page, text in PAGES.items():
        code = "\n".join([*blocks(text, "console", "sh"), *SPAN.findall(text)])
        assert set(re.findall(r"\bout ([A-Z]\w+)", code)) <= set(TEMPLATE["Outputs"]), page
        assert set(re.findall(r"\binvoke ([A-Z]\w+)", code)) <= set(TEMPLATE["Resources"]), page
        assert set(re.findall(r"--config-env ([a-z-]+)", code)) <= known, page
        assert all((ROOT / path).exists() for path in re.findall(r"\bevents/[\w-]+\.json", code)), page


def test_parameters_are_documented() -> None:
    """Each parameter with its default and the variable that it sets; nothing else."""
    variables = {
        value["Ref"]: name
        for each in TEMPLATE["Resources"].values()
        if each["Type"] == "AWS::Serverless::Function"
        for name, value in each["Properties"]["Environment"]["Variables"].items()
        if value.get("Ref") in TEMPLATE["Parameters"]
    }
    documented = {
        names(parameter)[0]: ("".join(names(default)), "".join(names(variable)))
        for parameter, default, variable, _ in table(
            "docs/settings.md", "parameter | default | variable | meaning"
        )
    }

    assert documented == {
        name: (str(each["Default"]), variables.get(name, "")) for name, each in TEMPLATE["Parameters"].items()
    }


def test_variables_are_documented() -> None:
    """Each environment variable that the code reads has a row; no other has."""
    read = set(re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', SOURCES))
    by_parameter = table("docs/settings.md", "parameter | default | variable | meaning")
    cells = [row[2] for row in by_parameter] + [
        row[0] for row in table("docs/settings.md", "variable | value")
    ]

    # Lambda and sam local set those of AWS; HMAC_… are algorithms.
    ours = {name for name in read if not name.startswith(("AWS_", "HMAC_", "SWEEP_FIELD"))}
    assert {name for cell in cells for name in names(cell)} == ours


def emitted() -> set[str]:
    """The metrics: errors' own, those that functions count, and those that CloudWatch makes of the log."""
    calls = re.findall(r"\b(?:metric = |count\(|observe_milliseconds\()(.*)", SOURCES)
    filters = [each for each in TEMPLATE["Resources"].values() if each["Type"] == "AWS::Logs::MetricFilter"]
    of_the_log = {each["Properties"]["MetricTransformations"][0]["MetricName"] for each in filters}
    return of_the_log | set(re.findall(r'"([A-Z]\w+)"', "\n".join(calls)))


def test_costs_add_up() -> None:
    """Prices are those of their formulas, of the template's alarms and of the benchmark; sums are sums."""
    sums = [0.0]
    for what, formula, dollars in table("docs/cost.md", "what | formula | dollars"):
        if what == "**sum**":
            assert dollars == f"**{sums[-1]:.2f}**"
            sums.append(0.0)
        else:
            assert dollars == f"{price(formula):.2f}", what
            sums[-1] += float(dollars)
    costs, (a_month, a_million, _) = PAGES["docs/cost.md"], sums
    by = {what: price(formula) for what, formula, _ in table("docs/cost.md", "and by | formula | dollars")}
    _, http, access_log, queue, event, later, _ = by.values()
    alarms = [each for each in TEMPLATE["Resources"].values() if each["Type"] == "AWS::CloudWatch::Alarm"]
    (measured,) = re.findall(r"^\| 512 MB .*\$([\d.]+) \|$", PAGES["docs/performance.md"], re.MULTILINE)

    assert f"= {a_month + 0.2 * (a_million + queue + event):.2f}" in costs
    webhooks = a_month + 4 * 0.30 + 0.2 * (a_million + http + access_log + queue + later)
    assert f"= {webhooks:.2f}" in costs
    assert f"| alarms | {len(alarms)} x " in costs
    assert f"| 1 x {measured} |" in costs


def price(formula: str) -> float:
    """What a sum of products comes to."""
    return sum(prod(float(factor) for factor in term.split("x")) for term in formula.split("+"))


def logged() -> set[str]:
    """The messages of log lines."""
    calls = r'\b(?:logger\.\w+\(|_log\(|reporting\(\{\}, |NOT_ENDED = )\s*"(\w+)"'
    return set(re.findall(calls, SOURCES))


def fields(schema: str) -> set[str]:
    """The fields of an input."""
    return set(json.loads((PACKAGE / schema).read_text())["properties"])


@pytest.mark.parametrize(
    ("page", "head", "known"),
    [
        ("docs/metrics-and-logs.md", "metric | what it counts", emitted()),
        ("docs/metrics-and-logs.md", "message | level | meaning | own keys", logged()),
        ("docs/calling.md", "field | type | | meaning", set(SCHEMA["properties"])),
        ("docs/sweep.md", "field | type | default | meaning", fields("sweep.schema.json")),
        ("docs/sources.md", "field | default | meaning", fields("webhooks/source.schema.json")),
    ],
)
def test_a_table_is_complete(page: str, head: str, known: set[str]) -> None:
    """It has everything that the code has, and nothing else."""
    assert {name for row in table(page, head) for name in names(row[0])} == known


def test_problems_are_documented() -> None:
    """Status, code, error class and whether to retry, of every problem."""
    rows = table("docs/calling.md", "status | `code` | error class | when | retry?")
    documented = {
        (int(status), names(code)[0], error, retry == "no")
        for status, code, classes, _, retry in rows
        for error in names(classes) or [classes]
    }
    # The page groups the errors that only HTTP callers can meet.
    http_only = {"InvalidSignature", "UnsupportedMediaType", "QueueUnavailable"}
    expected = {
        (
            int(status),
            error.code,
            "HTTP only" if "triggers" in error.__module__ or error.__name__ in http_only else error.__name__,
            error.permanent,
        )
        for error, status in STATUS.items()
    }

    assert documented == expected


def test_commands_in_the_docs_are_valid() -> None:
    """Each command that stands on a page by itself is one."""
    found = 0
    for page, text in PAGES.items():
        for block in blocks(text, "json"):
            value = json.loads(block)
            if "flow_sid" in value and "executions" not in value:
                Draft202012Validator(SCHEMA).validate(value)
                found += 1
            assert isinstance(value, dict), page
    assert found


@pytest.mark.parametrize("name", RELEASED["properties"])
def test_the_schema_only_adds(name: str) -> None:
    """What was a valid field as released is one now: it has the same rules, and may have more types."""
    released, now = RELEASED["properties"][name], SCHEMA["properties"][name]
    of_lists = {"minItems", "maxItems", "items"}

    assert set(released["type"]) <= set(now["type"])
    assert {rule: now[rule] for rule in now.keys() - of_lists - {"description", "type"}} == {
        rule: released[rule] for rule in released.keys() - {"description", "type"}
    }


def test_the_schema_demands_no_more() -> None:
    """A command needs what it needed as released; fields that are new are optional, others ignored."""
    either, before = ([rule["required"] for rule in schema["oneOf"]] for schema in (SCHEMA, RELEASED))

    assert (either, SCHEMA["required"]) == (before, RELEASED["required"])
    assert SCHEMA.keys() <= RELEASED.keys()
    assert SCHEMA.get("additionalProperties", True) is True
    mandatory = {name for name, each in SCHEMA["properties"].items() if "null" not in each["type"]}
    assert mandatory <= RELEASED["properties"].keys()


def test_imports_point_one_way() -> None:
    """The package's docstring has every module, and each imports only what is below it, or on its line."""
    listing = inspect.cleandoc(end_conversation.__doc__ or "")
    lines = [re.findall(r"\w+", line.partition("  ")[0]) for line in listing.splitlines()[4:]]
    level = {module: number for number, line in enumerate(lines) for module in line}
    assert level.keys() == {Path(name).stem for name in MODULES}
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for imported in re.findall(r"^ *from end_conversation\.(\w+)", path.read_text(), re.MULTILINE):
            assert imported == own or level[imported] >= level[own], path
