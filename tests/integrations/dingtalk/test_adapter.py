from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from integrations.base import Adapter
from integrations.dingtalk.adapter import DingTalkAdapter
from integrations.dingtalk.reply import PlainReply
from integrations.errors import OutcomeUnknown, PlatformError
from integrations.values import Credentials, ReplyTarget
from tests.integrations.doubles import MemoryJournal, MemoryTokens

from .fake_dingtalk import CUT_AFTER, TO_USER, FakeDingTalk


@pytest.fixture
def adapter(http: httpx.Client, tokens: MemoryTokens) -> DingTalkAdapter:
    return DingTalkAdapter(http, tokens)


def test_adapter_adds_nothing_to_the_interface_when_looked_at() -> None:
    names = {name for name in vars(DingTalkAdapter) if not name.startswith("_")}
    assert names <= set(vars(Adapter)) | {"platform"}


@pytest.mark.parametrize(
    ("target", "via"),
    [
        (ReplyTarget("cidGroup==", "group", sender_id="staff0001"), "group"),
        (ReplyTarget("cidGroup==", "direct"), "group"),
        (ReplyTarget("", "direct", sender_id="staff0001"), "user"),
        (ReplyTarget("", "group", sender_id="staff0001"), "user"),
        (ReplyTarget("cidDirect==", "direct", sender_id="staff0001"), "user"),
    ],
)
def test_push_reaches_chat_or_person_when_the_target_names_it(
    adapter: DingTalkAdapter,
    credentials: Credentials,
    dingtalk: FakeDingTalk,
    journal: MemoryJournal,
    target: ReplyTarget,
    via: str,
) -> None:
    adapter.push(credentials, replace(target, webhook_url=dingtalk.webhook, webhook_expires_at_s=9e9), "news", journal)
    adapter.push(credentials, target, "news", journal)
    assert dingtalk.seen == [(via, "news")]


def test_push_is_not_repeated_when_its_outcome_is_unknown(
    adapter: DingTalkAdapter, credentials: Credentials, dingtalk: FakeDingTalk, journal: MemoryJournal
) -> None:
    dingtalk.fail(TO_USER, CUT_AFTER)
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            adapter.push(credentials, ReplyTarget("", "direct", sender_id="staff0001"), "news", journal)
    assert dingtalk.seen == [("user", "news")]


def test_push_is_refused_when_the_group_is_unknown(
    adapter: DingTalkAdapter, credentials: Credentials, journal: MemoryJournal
) -> None:
    with pytest.raises(PlatformError) as caught:
        adapter.push(credentials, ReplyTarget("cidOther", "group"), "news", journal)
    assert caught.value.permanent
    assert journal.states == {"part-1-api": "refused"}


def test_reply_is_plain_when_no_template_is_configured(
    adapter: DingTalkAdapter, credentials: Credentials, direct: ReplyTarget, journal: MemoryJournal
) -> None:
    bare = replace(credentials, card_template_id="")
    assert isinstance(adapter.open_reply(bare, direct, journal, streaming=True), PlainReply)


def test_own_id_is_not_needed_when_asked(adapter: DingTalkAdapter, credentials: Credentials) -> None:
    assert adapter.fetch_own_id(credentials) == ""
