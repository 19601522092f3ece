"""Exactly the genuine webhooks are accepted, and their events come to what the model says."""

import json

from conftest import sample

from end_conversation.webhooks import verifier
from fuzz.conftest import SECRET_ID, Result, World, fuzz
from fuzz.inputs import Json, json_texts, mostly
from fuzz.model import REJECTED, Expected, from_milliseconds
from fuzz.webhooks import CHALLENGE, KEY, SOURCES, Webhook, bodies, secrets, webhooks
from local import signing


def declare(world: World, secret: str) -> None:
    """Have this in the webhook secret, from the next request on."""
    world.aws.put_secret(SECRET_ID, secret)
    verifier._verifier_of.cache_clear()


@fuzz(webhooks)
def test_webhooks(world: World, webhook: Webhook) -> None:
    """Our own route, and a source of each kind of proof."""
    world.renew()
    declare(world, json.dumps({"keys": [signing.KEY], "sources": SOURCES}))
    payloads, times = webhook.payloads, (from_milliseconds(webhook.sent_at),)
    wants = {place: world.expected(payload, times) for place, payload in (payloads or {}).items()}
    result = world.invoke(webhook.event())
    assert (result.status == 401) == bool(webhook.wrong)
    if webhook.wrong:
        assert not world.studio.requests
    elif webhook.source == "token" and webhook.content == CHALLENGE:
        assert (result.status, result.body) == (200, CHALLENGE)
    elif payloads is None:
        assert result.body["code"] == "invalid_request"
    elif not wants:
        assert (result.status, result.body) == (200, {"status": "ignored"})
    elif len(wants) == 1:
        world.check(result, *wants.values())
    else:
        check_several(world, result, SOURCES[webhook.source].get("respond"), wants)


def check_several(world: World, result: Result, respond: str | None, wants: dict[int, Expected]) -> None:
    """Check several events of one webhook, each for itself."""
    rejected = {place for place, want in wants.items() if want.code in REJECTED}
    assert {each["index"] for each in result.body.get("rejected", ())} == rejected
    valid = [want for place, want in wants.items() if place not in rejected]
    if not valid:
        assert result.body["code"] == "invalid_request"
    elif respond == "sync":
        assert world.ended == world.active & {sid for want in valid if not want.dry_run for sid in want.sids}
        assert result.body.get("code") in ({want.code for want in valid if want.code} or {None})
    else:
        assert result.status == 202
        assert sorted(map(str, map(world.expected, world.queued))) == sorted(map(str, valid))


@fuzz(mostly(secrets.map(json.dumps), json_texts(secrets)), bodies)
def test_declarations(world: World, secret: str, body: Json) -> None:
    """Any declaration, and any body for it, gets an answer that is not a server's fault."""
    world.renew()
    declare(world, secret)
    event = sample("source-zendesk") | {"pathParameters": {"source": "crm"}, "body": json.dumps(body)}
    event["headers"] = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    result = world.invoke(event)
    assert result.status in {200, 202, 400, 401, 503}
    if result.status == 503:
        assert result.body["code"] == "credentials_unavailable"
