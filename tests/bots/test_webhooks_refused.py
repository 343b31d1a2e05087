"""The platforms' door: what is refused, with which status, and what is noted. Through the whole ASGI stack."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest
from django.core.cache import cache
from django.db.models import QuerySet

from bots import limits, places
from bots.models import Message
from clawdbot_site.security import rule_book, suspects
from clawdbot_site.security.models import IPRule
from integrations.errors import AuthenticationError
from integrations.feishu.adapter import FeishuAdapter
from integrations.models import PlatformCredential
from monitoring import audit
from monitoring.metrics import WEBHOOK_SECONDS
from monitoring.models import AuditLog
from tests import factories

from .callbacks import dingtalk_message, feishu_event, in_database, path_of, post

pytestmark = pytest.mark.django_db(transaction=True)


def refused_so_far() -> float:
    """Callbacks of Feishu that were not taken, as the metrics count them."""
    (metric,) = WEBHOOK_SECONDS.collect()
    taken = ("accepted", "repeated", "ignored", "challenge")
    counts = [sample for sample in metric.samples if sample.name.endswith("_count")]
    return sum(sample.value for sample in counts if sample.labels["outcome"] not in taken)


def of_the_door() -> QuerySet[AuditLog]:
    """Entries but those of the gate, whose thread may still write what an earlier test sent."""
    return AuditLog.objects.exclude(target_label="webhooks", target_id="").exclude(action="network.refused")


@pytest.mark.rule("W1")
async def test_a_forged_signature_is_refused_and_audited(feishu_endpoint):
    body, headers = feishu_event(feishu_endpoint, sign_key="guessed")

    status, answer = await post(path_of(feishu_endpoint), body, headers)

    actions = await in_database(lambda: list(of_the_door().values_list("action", flat=True)))()
    assert (status, answer["error"]["code"]) == (401, "unauthenticated")
    assert actions == ["webhook.rejected"]
    assert await in_database(Message.objects.count)() == 0


@pytest.mark.rule("W3")
async def test_an_event_for_another_bot_is_refused(feishu_endpoint):
    other = await in_database(lambda: factories.endpoint(credential=factories.credential("feishu")))()
    body, headers = feishu_event(feishu_endpoint)

    assert (await post(path_of(other), body, headers))[0] == 401


async def test_unknown_and_disabled_addresses_are_not_found(feishu_endpoint):
    body, headers = feishu_event(feishu_endpoint)
    assert (await post("/webhooks/feishu/unknown/", body, headers))[0] == 404
    assert (await post(f"/webhooks/dingtalk/{feishu_endpoint.key}/", body, headers))[0] == 404

    assert (await post(path_of(feishu_endpoint), body, headers))[0] == 200
    feishu_endpoint.is_enabled = False
    await in_database(feishu_endpoint.save)()
    assert (await post(path_of(feishu_endpoint), body, headers))[0] == 404


async def test_what_another_process_disabled_is_not_found_within_its_time(feishu_endpoint, monkeypatch):
    monkeypatch.setattr(places, "REMEMBERED_S", 0.2)
    assert (await post(path_of(feishu_endpoint), *feishu_event(feishu_endpoint)))[0] == 200

    await in_database(lambda: type(feishu_endpoint).objects.update(is_enabled=False))()  # no signal: as from elsewhere
    await asyncio.sleep(0.25)

    assert (await post(path_of(feishu_endpoint), *feishu_event(feishu_endpoint, message_id="om_2")))[0] == 404


async def test_two_processes_never_pin_two_companies(dingtalk_endpoint, monkeypatch):
    """The other one has pinned already, and this one does not know it yet."""
    first, headers = dingtalk_message(dingtalk_endpoint, chatbotCorpId="corp1")
    await in_database(lambda: places.look_up(dingtalk_endpoint.key))()
    await in_database(lambda: PlatformCredential.objects.update(corp_id="corp2"))()

    assert (await post(path_of(dingtalk_endpoint), first, headers))[0] == 401
    assert await in_database(Message.objects.count)() == 0


async def test_other_methods_sizes_and_bodies_are_refused(feishu_endpoint):
    body, headers = feishu_event(feishu_endpoint)

    assert (await post(path_of(feishu_endpoint), b"", headers, method="GET"))[0] == 405
    assert (await post(path_of(feishu_endpoint), b"x" * (1024 * 1024 + 1), headers))[0] == 413
    assert (await post(path_of(feishu_endpoint), body, {**headers, "content-type": "text/plain"}))[0] == 415
    assert (await post(path_of(feishu_endpoint), b"[]"))[0] == 400
    assert (await post(path_of(feishu_endpoint), b"\xff\xfe"))[0] == 400


@pytest.mark.rule("W4")
@pytest.mark.parametrize(
    ("status", "reason", "body", "sent"),
    [
        (400, "payload: the body is not a JSON object", b"[]", {}),
        (400, "payload: the body is not one JSON value", b'{"a":1}{"b":2}', {}),
        (401, "decryption: the body is not encrypted although an Encrypt Key is set", b"{}", {}),
        (
            415,
            "type: the body does not call itself JSON",
            b"{}",
            {"content-type": "text/plain", "x-lark-signature": "0"},
        ),
    ],
)
async def test_bad_input_is_refused_audited_and_counted(feishu_endpoint, status, reason, body, sent):
    audit.REFUSALS.clear()  # what an earlier test sent would be summed up here
    counted = refused_so_far()

    assert (await post(path_of(feishu_endpoint), body, sent))[0] == status

    noted = await in_database(lambda: list(of_the_door().values_list("action", "reason")))()
    assert noted == [("webhook.rejected", reason)]
    assert refused_so_far() == counted + 1
    assert await in_database(Message.objects.count)() == 0


@pytest.mark.rule("W7")
async def test_unknown_key_does_the_work_of_a_bad_signature_and_is_noted_without_the_key(feishu_endpoint, monkeypatch):
    audit.REFUSALS.clear()  # an earlier test knocked there, too
    checked = []
    receive = FeishuAdapter.open

    def counting(self, request, credentials):
        checked.append(credentials.app_id)
        return receive(self, request, credentials)

    monkeypatch.setattr(FeishuAdapter, "open", counting)
    body, headers = feishu_event(feishu_endpoint)
    key = "a-key-that-nobody-has"

    assert (await post(f"/webhooks/feishu/{key}/", body, headers))[0] == 404
    assert (await post(f"/webhooks/elsewhere/{key}/", body, headers))[0] == 404

    noted = await in_database(lambda: list(of_the_door().values_list("target_label", "reason")))()
    assert checked == ["nobody"]
    assert noted == [("/webhooks/feishu/", "key: no such address, or it is disabled")]


async def test_the_first_message_pins_the_company_and_others_are_refused_then(dingtalk_endpoint):
    first, headers = dingtalk_message(dingtalk_endpoint)
    assert (await post(path_of(dingtalk_endpoint), first, headers))[0] == 200

    foreign, headers = dingtalk_message(dingtalk_endpoint, msgId="msg2", chatbotCorpId="another")
    assert (await post(path_of(dingtalk_endpoint), foreign, headers))[0] == 401


async def test_more_callbacks_than_an_endpoint_may_take_are_put_off(feishu_endpoint, monkeypatch):
    monkeypatch.setattr(limits, "time", SimpleNamespace(time=lambda: 90.0))  # no minute ends in between
    feishu_endpoint.rate_limit_per_minute = 2
    await in_database(feishu_endpoint.save)()
    answers = [
        await post(path_of(feishu_endpoint), *feishu_event(feishu_endpoint, message_id=f"om_{n}")) for n in range(3)
    ]

    assert sorted(status for status, _ in answers) == [200, 200, 429]
    assert await in_database(Message.objects.count)() == 2


@pytest.mark.rule("N6")
async def test_a_rule_of_the_endpoint_is_asked_before_any_signature(feishu_endpoint, monkeypatch):
    opened = []

    def noting(*args):
        opened.append(args)
        raise AuthenticationError("nobody is authentic here")

    monkeypatch.setattr(FeishuAdapter, "open", noting)
    rule = IPRule(action="block", network="198.51.100.7", scope="webhooks", endpoint_id=feishu_endpoint.pk)
    await in_database(rule.save)()
    await in_database(rule_book.rules.load)()
    try:
        status, answer = await post(path_of(feishu_endpoint), *feishu_event(feishu_endpoint), client="198.51.100.7")
    finally:
        await in_database(rule.delete)()
        await in_database(rule_book.rules.load)()

    assert (status, answer["error"]["code"], opened) == (403, "address_blocked", [])


@pytest.mark.rule("A10")
async def test_forged_callbacks_end_in_a_block_of_their_sender(feishu_endpoint, settings):
    settings.AUTO_BLOCK_FAILURES = 4
    await in_database(cache.clear)()
    suspects.watch._failures.clear()
    for number in range(2):
        forged, headers = feishu_event(feishu_endpoint, sign_key="guessed")
        more = {"x-forwarded-for": f"203.0.113.{number}"}
        assert (await post(path_of(feishu_endpoint), forged, {**headers, **more}, client="198.51.100.7"))[0] == 401
        assert (await post("/webhooks/feishu/guess/", forged, headers, client="198.51.100.7"))[0] == 404
    await in_database(suspects.watch.flush)(lambda address: False)

    rules = await in_database(lambda: list(IPRule.objects.values_list("network", "scope", "is_automatic")))()
    assert rules == [("198.51.100.7/32", "webhooks", True)]


@pytest.mark.rule("A10")
async def test_who_sends_authentic_callbacks_is_not_blocked_for_forged_ones(feishu_endpoint, settings):
    settings.AUTO_BLOCK_FAILURES = 2
    await in_database(cache.clear)()
    suspects.watch._failures.clear()
    suspects.watch._authentic.clear()
    assert (await post(path_of(feishu_endpoint), *feishu_event(feishu_endpoint), client="198.51.100.8"))[0] == 200
    for _ in range(4):
        await post(path_of(feishu_endpoint), *feishu_event(feishu_endpoint, sign_key="guessed"), client="198.51.100.8")
    await in_database(suspects.watch.flush)(lambda address: False)

    assert not await in_database(IPRule.objects.exists)()


@pytest.mark.rule("W7")
async def test_unknown_key_and_bad_signature_take_about_the_same_time(feishu_endpoint):
    """Keys are random, so a difference would tell nothing; there is none worth measuring either."""
    body, headers = feishu_event(feishu_endpoint, sign_key="guessed")
    took: dict[str, list[float]] = {"/webhooks/feishu/a-key-that-nobody-has/": [], path_of(feishu_endpoint): []}
    for _ in range(15):
        for path, times in took.items():
            started = time.perf_counter()
            await post(path, body, headers)
            times.append(time.perf_counter() - started)
    unknown, forged = (sorted(times)[7] for times in took.values())
    assert 1 / 4 < unknown / forged < 4
