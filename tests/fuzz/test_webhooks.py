"""Exactly the genuine webhooks are accepted, and their events come to what the model says."""

import json
from typing import Any

from conftest import sample

from end_conversation.webhooks import verifier
from fuzz.conftest import SECRET_ID, World, fuzz
from fuzz.inputs import Json, json_texts, mostly
from fuzz.model import REJECTED, from_milliseconds
from fuzz.webhooks import KEY, SOURCES, Webhook, bodies, secrets, webhooks
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
    wants = [
        world.expected(payload, (from_milliseconds(webhook.sent_at),)) for payload in webhook.payloads or ()
    ]
    told = world.invoke(webhook.event())
    assert (told.status == 401) == bool(webhook.wrong)
    if webhook.wrong:
        assert not world.studio.requests
    elif webhook.payloads is None:
        assert told.body["code"] == "invalid_request"
    elif not wants:
        assert (told.status, told.body) == (200, {"status": "ignored"})
    elif len(wants) == 1:
        world.check(told, wants[0])
    else:
        check_several(world, told.status, told.body, webhook, wants)


def check_several(world: World, status: int, body: Json, webhook: Webhook, wants: list[Any]) -> None:
    """Several events of one webhook: all, or the first reason why not."""
    codes = [want.code for want in wants if want.code]
    if SOURCES[webhook.source].get("respond") == "sync":
        assert world.ended == world.active & {sid for want in wants if not want.dry_run for sid in want.sids}
        assert body.get("code") in (codes or [None])
    elif rejected := [code for code in codes if code in REJECTED]:
        assert body["code"] == rejected[0]
    else:
        assert status == 202
        assert sorted(map(str, map(world.expected, world.queued))) == sorted(map(str, wants))


@fuzz(mostly(secrets.map(json.dumps), json_texts(secrets)), bodies)
def test_declarations(world: World, secret: str, body: Json) -> None:
    """Any declaration, and any body for it, gets an answer that is not a server's fault."""
    world.renew()
    declare(world, secret)
    event = sample("source-zendesk") | {"pathParameters": {"source": "crm"}, "body": json.dumps(body)}
    event["headers"] = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    told = world.invoke(event)
    assert told.status in {200, 202, 400, 401, 503}
    if told.status == 503:
        assert told.body["code"] == "credentials_unavailable"
