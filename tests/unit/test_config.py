"""What the environment may say."""

import pytest
from conftest import FLOW_SID
from twilio.rest import Client

from end_conversation.config import Config
from end_conversation.errors import ConfigurationError

MESSAGES = {
    "TWILIO_SECRET_ID is not set",
    "POWERTOOLS_LOG_LEVEL is not a log level",
    "TWILIO_SECRET_MAX_AGE_SECONDS is not a number of seconds",
    "TWILIO_EDGE is not a valid host name label",
    "TWILIO_REGION is not a valid host name label",
    "TWILIO_EDGE is required, unless TWILIO_REGION is us1, au1, ie1, jp1",
    "HTTPS_PROXY is not of the form http://[user:password@]host[:port]",
    "TWILIO_STUDIO_BASE_URL is not of the form https://host[:port]",
    "TWILIO_STUDIO_BASE_URL must be https:// unless its host is loopback",
    "OUTCOME_EVENT_BUS is not the name or ARN of an event bus",
    "QUEUE_URL is not the URL of a queue",
    "DEAD_LETTER_QUEUE_URL is not the URL of a queue",
}
LEAST = {"TWILIO_SECRET_ID": "end-conversation/twilio"}


def read(**environ: str) -> Config:
    return Config.from_environment(LEAST | environ)


def test_defaults() -> None:
    """The secret's id is all that must be set."""
    assert read() == Config(
        twilio_secret_id="end-conversation/twilio",
        account_secret_prefix=None,
        secret_max_age=300.0,
        studio_base_url="https://studio.twilio.com",
        proxy_url=None,
        allowed_flow_sids=None,
        dead_letter_queue_url=None,
        queue_url=None,
        outcome_event_bus=None,
        webhook_secret_id=None,
        webhook_base_url=None,
    )


def test_empty_counts_as_absent() -> None:
    """CloudFormation cannot leave a variable out, only empty."""
    names = "TWILIO_SECRET_MAX_AGE_SECONDS TWILIO_EDGE TWILIO_REGION TWILIO_STUDIO_BASE_URL ALLOWED_FLOW_SIDS"
    names += " DEAD_LETTER_QUEUE_URL HTTPS_PROXY NO_PROXY"
    assert read(**dict.fromkeys(names.split(), "")) == read()


@pytest.mark.parametrize(
    ("edge", "region", "host"),
    [
        ("", "", "studio.twilio.com"),
        ("dublin", "", "studio.dublin.us1.twilio.com"),
        ("dublin", "ie1", "studio.dublin.ie1.twilio.com"),
        ("sao-paulo", "br1", "studio.sao-paulo.br1.twilio.com"),
        # A region brings its documented edge: Twilio withdraws the hosts without one.
        ("", "us1", "studio.twilio.com"),
        ("", "au1", "studio.sydney.au1.twilio.com"),
        ("", "ie1", "studio.dublin.ie1.twilio.com"),
        ("", "jp1", "studio.tokyo.jp1.twilio.com"),
    ],
)
def test_edge_and_region(edge: str, region: str, host: str) -> None:
    """With an edge, or with neither, the host is the one that Twilio's own SDK would ask."""
    assert read(TWILIO_EDGE=edge, TWILIO_REGION=region).studio_base_url == f"https://{host}"
    if edge or not region:
        sdk = Client("AC" + "0" * 32, "x", edge=edge, region=region)
        assert sdk.get_hostname("https://studio.twilio.com") == f"https://{host}"


@pytest.mark.parametrize(
    ("url", "read_as"),
    [
        ("https://studio.example.com", "https://studio.example.com"),
        ("https://studio.example.com:8443/", "https://studio.example.com:8443"),
        ("http://127.0.0.1:8801", "http://127.0.0.1:8801"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://localhost:8801", "http://localhost:8801"),
        ("http://[::1]:8801", "http://[::1]:8801"),
    ],
)
def test_base_urls(url: str, read_as: str) -> None:
    """HTTPS goes anywhere, HTTP to loopback."""
    assert read(TWILIO_STUDIO_BASE_URL=url, TWILIO_EDGE="dublin").studio_base_url == read_as


def test_a_bus_may_be_an_arn() -> None:
    """In every partition and region, with a partner's name."""
    arn = "arn:aws-us-gov:events:us-gov-west-1:123456789012:event-bus/partner/brand.one"
    assert read(OUTCOME_EVENT_BUS=arn).outcome_event_bus == arn


def test_sam_local_may_use_http() -> None:
    """Within `sam local` the stand-in has the host's name."""
    url = "http://host.docker.internal:8801"
    assert read(TWILIO_STUDIO_BASE_URL=url, AWS_SAM_LOCAL="true").studio_base_url == url


@pytest.mark.parametrize(
    "environ",
    [
        {"TWILIO_SECRET_ID": ""},
        {"TWILIO_SECRET_ID": " "},
        {"POWERTOOLS_LOG_LEVEL": "LOUD"},
        *(
            {"TWILIO_SECRET_MAX_AGE_SECONDS": age}
            for age in ("x", "-1", "nan", "inf", "1e3", "1_0", " 5", "\u0661")
        ),
        *({"TWILIO_EDGE": edge} for edge in ("evil.com/", "a.b", "-a", "a@b", "a\n")),
        {"TWILIO_REGION": "ie1#"},
        {"TWILIO_EDGE": "", "TWILIO_REGION": "br1"},
        *(
            {"HTTPS_PROXY": url}
            for url in (
                "socks5://proxy:1080",
                "http://",
                "http://user:pa/ss@proxy:3128",
                "http://user:pa#ss@proxy:3128",
                "http://user:p%C3%A4ss@proxy:3128",
                "http://proxy:port",
                "http://proxy:99999",
                "http://proxy:3128/path",
                "http://proxy:3128?x",
                "http://proxy:3128 ",
                "http://pro\nxy:3128",
                " ",
            )
        ),
        *(
            {"TWILIO_STUDIO_BASE_URL": url}
            for url in (
                "studio.twilio.com",
                "ftp://studio.twilio.com",
                "https://",
                "https://user:pass@studio.twilio.com",
                "https://@studio.twilio.com",
                "https://studio.twilio.com/v2",
                "https://studio.twilio.com?x=1",
                "https://studio.twilio.com#x",
                "https://studio.twilio.com:port",
                "https://studio.twilio.com:99999",
                "https://studio.twilio.com\n.evil.com",
                "https://studio.twilio.com\\@evil.com",
                "https://[::1",
                "http://studio.twilio.com",
                "http://127.0.0.1.evil.com",
                "http://localhost.evil.com",
                "http://10.0.0.1",
            )
        ),
        {"TWILIO_STUDIO_BASE_URL": "http://studio.twilio.com", "AWS_SAM_LOCAL": "false"},
        *(
            {name: url}
            for name in ("QUEUE_URL", "DEAD_LETTER_QUEUE_URL")
            for url in ("Queue", "arn:aws:sqs:us-east-1:123456789012:commands", "https://", "a b")
        ),
        *(
            {"OUTCOME_EVENT_BUS": bus}
            for bus in ("has space", "arn:aws:sns:us-east-1:123456789012:topic", "x" * 300, "a:b")
        ),
    ],
)
def test_an_invalid_value_is_refused(environ: dict[str, str]) -> None:
    """The error names the variable, and does not repeat its value."""
    with pytest.raises(ConfigurationError, match=next(iter(environ))) as refusal:
        read(**environ)
    assert str(refusal.value) in MESSAGES


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ("", None),
        (FLOW_SID, {FLOW_SID}),
        (f" {FLOW_SID} ,FW{'2' * 32},", {FLOW_SID, "FW" + "2" * 32}),
        ("nonsense", set()),
        (",", set()),
        (" ", set()),
    ],
)
def test_allowed_flows(value: str, allowed: set[str] | None) -> None:
    """A list without a valid SID allows nothing: it was meant to restrict."""
    found = read(ALLOWED_FLOW_SIDS=value).allowed_flow_sids
    assert found == (allowed if allowed is None else {sid.lower() for sid in allowed})


@pytest.mark.parametrize("name", ["QUEUE_URL", "DEAD_LETTER_QUEUE_URL"])
def test_sam_local_names_no_queue(name: str) -> None:
    """It gives the template's name of the queue, which is no queue on this machine."""
    assert read(**{name: "Queue", "AWS_SAM_LOCAL": "true"}) == read()
