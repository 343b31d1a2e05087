"""The platforms' door: what is taken, what is refused, and with which status. Through the whole ASGI stack."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from types import SimpleNamespace

import pytest
from channels.db import database_sync_to_async
from channels.testing import HttpCommunicator
from django.core.cache import cache
from django.db import OperationalError
from django.db.models import QuerySet

from bots import limits, places, storing
from bots.models import Message
from clawdbot_site.asgi import application
from clawdbot_site.security import rule_book, suspects
from clawdbot_site.security.models import IPRule
from integrations.dingtalk.crypto import callback_signature
from integrations.errors import AuthenticationError
from integrations.feishu.adapter import FeishuAdapter
from integrations.feishu.crypto import encrypt, event_signature
from integrations.models import PlatformCredential, QuotaUsage
from monitoring import audit
from monitoring.metrics import WEBHOOK_SECONDS
from monitoring.models import AuditLog
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
in_database = database_sync_to_async
Headers = dict[str, str]


@pytest.fixture
def feishu(db):
    return factories.endpoint(credential=factories.credential("feishu"))


@pytest.fixture
def dingtalk(db):
    return factories.endpoint(credential=factories.credential("dingtalk", corp_id=""))


async def post(
    path: str, body: bytes, headers: Headers | None = None, method: str = "POST", client: str = "127.0.0.1"
) -> tuple[int, object]:
    sent = {"content-type": "application/json", "host": "127.0.0.1", **(headers or {})}
    pairs = [(name.lower().encode(), value.encode()) for name, value in sent.items()]
    communicator = HttpCommunicator(application, method, path, body, pairs)
    communicator.scope["client"] = (client, 1234)
    answer = await communicator.get_response(timeout=10)
    return answer["status"], json.loads(answer["body"] or b"null")


def path_of(endpoint) -> str:
    return f"/webhooks/{endpoint.credential.platform}/{endpoint.key}/"


def feishu_event(
    endpoint, text: str = "Hello", *, message_id: str = "om_1", sign_key: str = "", **more: object
) -> tuple[bytes, Headers]:
    credential, now = endpoint.credential, str(int(time.time()))
    message = {
        "message_id": message_id,
        "chat_id": "oc_1",
        "chat_type": "p2p",
        "message_type": "text",
        "content": json.dumps({"text": text}),
        **more,
    }
    event = {
        "schema": "2.0",
        "header": {
            "event_id": secrets.token_hex(4),
            "token": credential.verification_token,
            "event_type": "im.message.receive_v1",
            "app_id": credential.app_id,
            "tenant_key": "t",
        },
        "event": {"sender": {"sender_id": {"open_id": "ou_1"}, "sender_type": "user"}, "message": message},
    }
    body = json.dumps({"encrypt": encrypt(json.dumps(event).encode(), credential.encrypt_key)}).encode()
    signature = event_signature(now, "n", sign_key or credential.encrypt_key, body)
    return body, {"X-Lark-Request-Timestamp": now, "X-Lark-Request-Nonce": "n", "X-Lark-Signature": signature}


def dingtalk_message(endpoint, text: str = "Hello", **fields: object) -> tuple[bytes, Headers]:
    now = str(int(time.time() * 1000))
    body = {
        "msgId": "msg1",
        "msgtype": "text",
        "text": {"content": text},
        "conversationType": "1",
        "conversationId": "cid1",
        "senderStaffId": "staff1",
        "senderId": "s1",
        "robotCode": endpoint.credential.app_id,
        "chatbotCorpId": "corp1",
        **fields,
    }
    sign = callback_signature(now, endpoint.credential.app_secret)
    return json.dumps(body).encode(), {"timestamp": now, "sign": sign}


def refused_so_far() -> float:
    """Callbacks of Feishu that were not taken, as the metrics count them."""
    (metric,) = WEBHOOK_SECONDS.collect()
    taken = ("accepted", "repeated", "ignored", "challenge")
    counts = [sample for sample in metric.samples if sample.name.endswith("_count")]
    return sum(sample.value for sample in counts if sample.labels["outcome"] not in taken)


@pytest.mark.rule("W5")
@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_signed_message_is_stored_before_the_200(feishu, slash):
    body, headers = feishu_event(feishu, "Hello 你好")

    status, answer = await post(path_of(feishu).rstrip("/") + slash, body, headers)

    stored = await in_database(lambda: Message.objects.filter(role="user").values_list("text", "external_id").get())()
    assert (status, answer, stored) == (200, {}, ("Hello 你好", "om_1"))


@pytest.mark.rule("W1", "W5", "W6")
async def test_a_repeat_is_taken_and_stored_once(feishu):
    for _ in range(3):
        body, headers = feishu_event(feishu)
        assert (await post(path_of(feishu), body, headers))[0] == 200

    assert await in_database(Message.objects.filter(role="user").count)() == 1


def of_the_door() -> QuerySet[AuditLog]:
    """Entries but those of the gate, whose thread may still write what an earlier test sent."""
    return AuditLog.objects.exclude(target_label="webhooks", target_id="")


@pytest.mark.rule("W1")
async def test_a_forged_signature_is_refused_and_audited(feishu):
    body, headers = feishu_event(feishu, sign_key="guessed")

    status, answer = await post(path_of(feishu), body, headers)

    actions = await in_database(lambda: list(of_the_door().values_list("action", flat=True)))()
    assert (status, answer["error"]["code"]) == (401, "unauthenticated")
    assert actions == ["webhook.rejected"]
    assert await in_database(Message.objects.count)() == 0


@pytest.mark.rule("W3")
async def test_an_event_for_another_bot_is_refused(feishu):
    other = await in_database(lambda: factories.endpoint(credential=factories.credential("feishu")))()
    body, headers = feishu_event(feishu)

    assert (await post(path_of(other), body, headers))[0] == 401


async def test_unknown_and_disabled_addresses_are_not_found(feishu):
    body, headers = feishu_event(feishu)
    assert (await post("/webhooks/feishu/unknown/", body, headers))[0] == 404
    assert (await post(f"/webhooks/dingtalk/{feishu.key}/", body, headers))[0] == 404

    assert (await post(path_of(feishu), body, headers))[0] == 200
    feishu.is_enabled = False
    await in_database(feishu.save)()
    assert (await post(path_of(feishu), body, headers))[0] == 404


async def test_what_another_process_disabled_is_not_found_within_its_time(feishu, monkeypatch):
    monkeypatch.setattr(places, "REMEMBERED_S", 0.2)
    assert (await post(path_of(feishu), *feishu_event(feishu)))[0] == 200

    await in_database(lambda: type(feishu).objects.update(is_enabled=False))()  # no signal: as from elsewhere
    await asyncio.sleep(0.25)

    assert (await post(path_of(feishu), *feishu_event(feishu, message_id="om_2")))[0] == 404


async def test_two_processes_never_pin_two_companies(dingtalk, monkeypatch):
    """The other one has pinned already, and this one does not know it yet."""
    first, headers = dingtalk_message(dingtalk, chatbotCorpId="corp1")
    await in_database(lambda: places.look_up(dingtalk.key))()
    await in_database(lambda: PlatformCredential.objects.update(corp_id="corp2"))()

    assert (await post(path_of(dingtalk), first, headers))[0] == 401
    assert await in_database(Message.objects.count)() == 0


async def test_other_methods_sizes_and_bodies_are_refused(feishu):
    body, headers = feishu_event(feishu)

    assert (await post(path_of(feishu), b"", headers, method="GET"))[0] == 405
    assert (await post(path_of(feishu), b"x" * (1024 * 1024 + 1), headers))[0] == 413
    assert (await post(path_of(feishu), body, {**headers, "content-type": "text/plain"}))[0] == 415
    assert (await post(path_of(feishu), b"[]"))[0] == 400
    assert (await post(path_of(feishu), b"\xff\xfe"))[0] == 400


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
async def test_bad_input_is_refused_audited_and_counted(feishu, status, reason, body, sent):
    audit.REFUSALS.clear()  # what an earlier test sent would be summed up here
    counted = refused_so_far()

    assert (await post(path_of(feishu), body, sent))[0] == status

    noted = await in_database(lambda: list(of_the_door().values_list("action", "reason")))()
    assert noted == [("webhook.rejected", reason)]
    assert refused_so_far() == counted + 1
    assert await in_database(Message.objects.count)() == 0


@pytest.mark.rule("W7")
async def test_unknown_key_does_the_work_of_a_bad_signature_and_is_noted_without_the_key(feishu, monkeypatch):
    audit.REFUSALS.clear()  # an earlier test knocked there, too
    checked = []
    receive = FeishuAdapter.open

    def counting(self, request, credentials):
        checked.append(credentials.app_id)
        return receive(self, request, credentials)

    monkeypatch.setattr(FeishuAdapter, "open", counting)
    body, headers = feishu_event(feishu)
    key = "a-key-that-nobody-has"

    assert (await post(f"/webhooks/feishu/{key}/", body, headers))[0] == 404
    assert (await post(f"/webhooks/elsewhere/{key}/", body, headers))[0] == 404

    noted = await in_database(lambda: list(of_the_door().values_list("target_label", "reason")))()
    assert checked == ["nobody"]
    assert noted == [("/webhooks/feishu/", "key: no such address, or it is disabled")]


@pytest.mark.rule("W2")
async def test_a_challenge_is_answered_and_does_nothing_else(feishu):
    challenge = {"type": "url_verification", "token": feishu.credential.verification_token, "challenge": 'x"你'}
    sealed = encrypt(json.dumps(challenge).encode(), feishu.credential.encrypt_key)

    assert await post(path_of(feishu), json.dumps({"encrypt": sealed}).encode()) == (200, {"challenge": 'x"你'})
    assert await in_database(Message.objects.count)() == 0


@pytest.mark.rule("W2")
async def test_dingtalks_console_probe_is_answered_and_does_nothing(dingtalk):
    assert await post(path_of(dingtalk), b"probe", {"content-type": "text/plain"}) == (200, {})
    assert await in_database(Message.objects.count)() == 0


async def test_the_first_message_pins_the_company_and_others_are_refused_then(dingtalk):
    first, headers = dingtalk_message(dingtalk)
    assert (await post(path_of(dingtalk), first, headers))[0] == 200

    foreign, headers = dingtalk_message(dingtalk, msgId="msg2", chatbotCorpId="another")
    assert (await post(path_of(dingtalk), foreign, headers))[0] == 401


async def test_the_session_address_is_kept_encrypted(dingtalk):
    url = "https://oapi.dingtalk.com/robot/sendBySession?session=canary-session"
    body, headers = dingtalk_message(dingtalk, sessionWebhook=url)
    await post(path_of(dingtalk), body, headers)

    message = await in_database(lambda: Message.objects.filter(role="user").get())()
    raw = await in_database(lambda: str(list(Message.objects.values())))()
    assert message.session_url == url
    assert "canary-session" not in raw


async def test_a_recalled_message_is_not_answered(feishu):
    body, headers = feishu_event(feishu)
    await post(path_of(feishu), body, headers)
    credential = feishu.credential
    event = {
        "schema": "2.0",
        "header": {
            "event_id": "e",
            "token": credential.verification_token,
            "event_type": "im.message.recalled_v1",
            "app_id": credential.app_id,
        },
        "event": {"message_id": "om_1", "chat_id": "oc_1"},
    }
    sealed = json.dumps({"encrypt": encrypt(json.dumps(event).encode(), credential.encrypt_key)}).encode()
    now = str(int(time.time()))
    signature = event_signature(now, "n", credential.encrypt_key, sealed)
    headers = {"X-Lark-Request-Timestamp": now, "X-Lark-Request-Nonce": "n", "X-Lark-Signature": signature}

    assert (await post(path_of(feishu), sealed, headers))[0] == 200
    message = await in_database(lambda: Message.objects.filter(role="user").get())()
    assert message.cancel_requested_at is not None


async def test_more_callbacks_than_an_endpoint_may_take_are_put_off(feishu, monkeypatch):
    monkeypatch.setattr(limits, "time", SimpleNamespace(time=lambda: 90.0))  # no minute ends in between
    feishu.rate_limit_per_minute = 2
    await in_database(feishu.save)()
    answers = [await post(path_of(feishu), *feishu_event(feishu, message_id=f"om_{n}")) for n in range(3)]

    assert sorted(status for status, _ in answers) == [200, 200, 429]
    assert await in_database(Message.objects.count)() == 2


async def test_stop_after_a_mention_is_taken_in_a_group(feishu):
    """The command stands behind a mention, and stopping needs the database."""
    feishu.credential.own_id = "ou_bot"
    await in_database(feishu.credential.save)()
    mentions = [{"key": "@_user_1", "id": {"open_id": "ou_bot"}, "name": "Bot"}]

    status, _ = await post(
        path_of(feishu), *feishu_event(feishu, "@_user_1 /stop", chat_type="group", mentions=mentions)
    )

    message = await in_database(Message.objects.get)()
    assert (status, message.details["command"], message.details["stopped"]) == (200, "stop", 0)


async def test_the_over_quota_notice_is_noted(dingtalk):
    notice, headers = dingtalk_message(dingtalk, errorCode=20001, errorMessage="over quota")

    assert (await post(path_of(dingtalk), notice, headers))[0] == 200
    used_up = await in_database(lambda: list(QuotaUsage.objects.filter(used_up_at__isnull=False)))()
    assert [row.quota for row in used_up] == ["webhook"]


async def test_ids_longer_than_a_column_are_taken_and_stay_apart(dingtalk):
    for end in "ab":
        body, headers = dingtalk_message(dingtalk, msgId="m" * 250 + end, conversationId="c" * 250)
        assert (await post(path_of(dingtalk), body, headers))[0] == 200

    assert await in_database(Message.objects.count)() == 2


# -- the gate before and after --


def commits_nothing(drafts):
    raise OperationalError("gone")


@pytest.mark.rule("W5")
async def test_what_was_not_committed_is_not_taken_and_comes_again(feishu, monkeypatch):
    body, headers = feishu_event(feishu)
    with monkeypatch.context() as lost:
        lost.setattr(storing, "store", commits_nothing)
        assert (await post(path_of(feishu), body, headers))[0] == 503
    assert await in_database(Message.objects.count)() == 0

    assert (await post(path_of(feishu), body, headers))[0] == 200
    assert await in_database(Message.objects.filter(role="user").count)() == 1


@pytest.mark.rule("W5", "W6")
async def test_a_retry_after_a_lost_answer_is_one_message(feishu, monkeypatch):
    """The commit was done; the platform never read our answer, as when the process is killed in between."""
    body, headers = feishu_event(feishu)
    store, rows_at_answer = storing.store, []

    def stored_and_lost(drafts):
        store(drafts)
        rows_at_answer.append(Message.objects.filter(role="user").count())
        raise OperationalError("the connection was lost after the commit")

    with monkeypatch.context() as lost:
        lost.setattr(storing, "store", stored_and_lost)
        assert (await post(path_of(feishu), body, headers))[0] == 503

    assert (await post(path_of(feishu), body, headers))[0] == 200
    assert rows_at_answer == [1]
    assert await in_database(Message.objects.filter(role="user").count)() == 1


@pytest.mark.rule("N6")
async def test_a_rule_of_the_endpoint_is_asked_before_any_signature(feishu, monkeypatch):
    opened = []

    def noting(*args):
        opened.append(args)
        raise AuthenticationError("nobody is authentic here")

    monkeypatch.setattr(FeishuAdapter, "open", noting)
    rule = IPRule(action="block", network="198.51.100.7", scope="webhooks", endpoint_id=feishu.pk)
    await in_database(rule.save)()
    await in_database(rule_book.rules.load)()
    try:
        status, answer = await post(path_of(feishu), *feishu_event(feishu), client="198.51.100.7")
    finally:
        await in_database(rule.delete)()
        await in_database(rule_book.rules.load)()

    assert (status, answer["error"]["code"], opened) == (403, "address_blocked", [])


@pytest.mark.rule("A10")
async def test_forged_callbacks_end_in_a_block_of_their_sender(feishu, settings):
    settings.AUTO_BLOCK_FAILURES = 4
    await in_database(cache.clear)()
    suspects.watch._failures.clear()
    for number in range(2):
        forged, headers = feishu_event(feishu, sign_key="guessed")
        more = {"x-forwarded-for": f"203.0.113.{number}"}
        assert (await post(path_of(feishu), forged, {**headers, **more}, client="198.51.100.7"))[0] == 401
        assert (await post("/webhooks/feishu/guess/", forged, headers, client="198.51.100.7"))[0] == 404
    await in_database(suspects.watch.flush)(lambda address: False)

    rules = await in_database(lambda: list(IPRule.objects.values_list("network", "scope", "is_automatic")))()
    assert rules == [("198.51.100.7/32", "webhooks", True)]


@pytest.mark.rule("A10")
async def test_who_sends_authentic_callbacks_is_not_blocked_for_forged_ones(feishu, settings):
    settings.AUTO_BLOCK_FAILURES = 2
    await in_database(cache.clear)()
    suspects.watch._failures.clear()
    suspects.watch._authentic.clear()
    assert (await post(path_of(feishu), *feishu_event(feishu), client="198.51.100.8"))[0] == 200
    for _ in range(4):
        await post(path_of(feishu), *feishu_event(feishu, sign_key="guessed"), client="198.51.100.8")
    await in_database(suspects.watch.flush)(lambda address: False)

    assert not await in_database(IPRule.objects.exists)()


@pytest.mark.rule("W7")
async def test_unknown_key_and_bad_signature_take_about_the_same_time(feishu):
    """Keys are random, so a difference would tell nothing; there is none worth measuring either."""
    body, headers = feishu_event(feishu, sign_key="guessed")
    took: dict[str, list[float]] = {"/webhooks/feishu/a-key-that-nobody-has/": [], path_of(feishu): []}
    for _ in range(15):
        for path, times in took.items():
            started = time.perf_counter()
            await post(path, body, headers)
            times.append(time.perf_counter() - started)
    unknown, forged = (sorted(times)[7] for times in took.values())
    assert 1 / 4 < unknown / forged < 4
