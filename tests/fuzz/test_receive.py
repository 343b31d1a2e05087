"""A million altered callbacks at ``adapter.receive``: none is accepted, and no other errors than the declared ones.

DingTalk's signature of messages and pressed buttons covers no body, so an altered body of these may be accepted where
robot and company are still ours: the residual risk that docs/security.md names. Nothing else may.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from random import Random

import httpx
import pytest

from integrations.base import Adapter
from integrations.dingtalk.opening import is_probe
from integrations.errors import AuthenticationError, PayloadError
from integrations.feishu.adapter import FeishuAdapter
from integrations.values import Challenge, Credentials, Ignored, WebhookRequest
from tests.integrations.dingtalk import test_opening as dingtalk
from tests.integrations.doubles import MemoryTokens
from tests.integrations.feishu import test_opening as feishu
from tests.integrations.feishu.conftest import credentials as feishu_credentials

from .mutations import mutant

Case = tuple[Adapter, Credentials, list[WebhookRequest]]
WHERE_BODIES_ARE_UNSIGNED = ("robotCode", "chatbotCorpId", "corpId")


def of_feishu() -> Case:
    texts = ("Hello", "Delete everything")
    message = {"message_id": "om_1", "chat_id": "oc_1", "chat_type": "p2p", "message_type": "text"}
    sender = {"sender_id": {"open_id": "ou_1"}, "sender_type": "user"}
    payloads = [feishu.event(event_type="im.message.receive_v1", event_id=f"e{number}") for number in range(2)]
    for payload, text in zip(payloads, texts, strict=True):
        payload["event"] = {"sender": sender, "message": {**message, "content": json.dumps({"text": text})}}
    requests = [feishu.signed(feishu.sealed(payload), age_s=number) for number, payload in enumerate(payloads)]
    return FeishuAdapter(httpx.Client(trust_env=False), MemoryTokens()), feishu_credentials(), requests


def of_dingtalk_events() -> Case:
    second = {**dingtalk.GONE, "OpenConversationId": "cidOther=="}
    requests = [dingtalk.event(dingtalk.GONE), dingtalk.event(second, timestamp=str(int(dingtalk.NOW_MS) - 5))]
    return dingtalk.ADAPTER, dingtalk.APP, requests


def of_dingtalk_buttons() -> Case:
    return (
        dingtalk.ADAPTER,
        dingtalk.APP,
        [dingtalk.press(dingtalk.PRESSED), dingtalk.press({**dingtalk.PRESSED, "userId": "boss"})],
    )


def of_dingtalk_messages() -> Case:
    body = {
        "conversationId": "cid1",
        "conversationType": "1",
        "msgId": "msg1",
        "senderStaffId": "staff0001",
        "senderId": "$:1",
    }
    body |= {
        "robotCode": dingtalk.APP.app_id,
        "chatbotCorpId": dingtalk.APP.corp_id,
        "msgtype": "text",
        "text": {"content": "Hi"},
    }
    body |= {
        "senderNick": "An",
        "sessionWebhook": "https://oapi.dingtalk.com/robot/sendBySession?session=1",
        "sessionWebhookExpiredTime": 1,
    }
    sign = dingtalk.callback_signature(dingtalk.NOW_MS, dingtalk.APP.app_secret)
    headers = {"timestamp": dingtalk.NOW_MS, "sign": sign}
    texts = ({"content": "Hi"}, {"content": "Ho"})
    requests = [WebhookRequest(headers, json.dumps({**body, "text": text}).encode(), dingtalk.NOW_S) for text in texts]
    return dingtalk.ADAPTER, dingtalk.APP, requests


CASES = {
    "feishu": of_feishu,
    "dingtalk events": of_dingtalk_events,
    "dingtalk buttons": of_dingtalk_buttons,
    "dingtalk messages": of_dingtalk_messages,
}


def received(case: Case, request: WebhookRequest) -> str:
    """What became of it. Anything but the declared errors and answers is raised."""
    adapter, own, authentic = case
    try:
        answer = adapter.receive(request, own)
    except AuthenticationError:
        return "refused"
    except PayloadError:
        return "no payload"
    if answer == Challenge({}) and is_probe(request):
        return "probe"  # answered by nothing, with no effect
    if any(answer == adapter.receive(one, own) for one in authentic):
        return "the original"  # as with a blank more: what it asks for is what was signed
    return "accepted"


def is_residual(case: Case, request: WebhookRequest) -> bool:
    """The body is altered, where none is signed, and it still names our robot and company; all else is authentic."""
    _adapter, own, authentic = case
    if received(case, replace(request, body=authentic[0].body)) != "the original":
        return False
    body = json.loads(request.body)
    named = [body.get(name) for name in WHERE_BODIES_ARE_UNSIGNED]
    return all(value in (None, own.app_id, own.corp_id) for value in named)


@pytest.mark.rule("W1", "W2")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("mutations", [4_000, pytest.param(250_000, marks=pytest.mark.long)])
def test_no_altered_callback_is_accepted(name: str, mutations: int) -> None:
    case, random = CASES[name](), Random(f"{name} {mutations}")
    adapter, own, authentic = case
    for one in authentic:
        assert not isinstance(adapter.receive(one, own), Challenge | Ignored)
    has_unsigned_body = name in ("dingtalk buttons", "dingtalk messages")
    outcomes: Counter[str] = Counter()
    for _each in range(mutations):
        request = mutant(*random.sample(authentic, 2), random)
        outcome = received(case, request)
        outcomes[outcome] += 1
        if outcome == "accepted":
            assert has_unsigned_body, request
            assert is_residual(case, request), request

    assert outcomes.total() == mutations
    assert outcomes["refused"] > mutations / 5
