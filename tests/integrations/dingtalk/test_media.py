"""Files that people send, and the departments they are in."""

from __future__ import annotations

import httpx
import pytest

from integrations.dingtalk.adapter import DingTalkAdapter
from integrations.errors import PlatformError, TooLarge
from integrations.values import Attachment, Credentials, Fetched
from tests.integrations.doubles import MemoryTokens

from .fake_dingtalk import CUT_BEFORE, DEPARTMENTS, DOWNLOAD, FILE, TOKEN, FakeDingTalk

PICTURE = Attachment("image", "code1", "cat.png")


@pytest.fixture
def adapter(http: httpx.Client, tokens: MemoryTokens, dingtalk: FakeDingTalk) -> DingTalkAdapter:
    dingtalk.files["code1"] = b"\x89PNG" + b"x" * 1000
    dingtalk.departments["staff0001"] = [[77, 12, 1], [30, 1]]
    return DingTalkAdapter(http, tokens)


def test_file_is_fetched_with_nothing_that_breaks_its_signature(
    adapter: DingTalkAdapter, credentials: Credentials, dingtalk: FakeDingTalk
) -> None:
    found = adapter.fetch_attachment(credentials, PICTURE, most_bytes=2000)
    assert found == Fetched(dingtalk.files["code1"], "application/octet-stream", "cat.png")
    path, headers = dingtalk.calls[-1]
    assert path.startswith(FILE)
    assert "Content-Type" not in headers


def test_file_is_not_read_to_its_end_when_it_is_too_large(adapter: DingTalkAdapter, credentials: Credentials) -> None:
    assert len(adapter.fetch_attachment(credentials, PICTURE, most_bytes=1004).data) == 1004
    with pytest.raises(TooLarge):
        adapter.fetch_attachment(credentials, PICTURE, most_bytes=1003)


def test_file_is_gone_in_words_when_its_code_is_too_old(adapter: DingTalkAdapter, credentials: Credentials) -> None:
    with pytest.raises(PlatformError, match="sent again") as caught:
        adapter.fetch_attachment(credentials, Attachment("image", "old"), most_bytes=10)
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("fault", "is_permanent"),
    [((403, "no"), True), ((302, "moved"), True), ((503, "busy"), False), (CUT_BEFORE, False)],
)
def test_store_that_fails_is_told_and_no_redirect_is_followed(
    adapter: DingTalkAdapter, credentials: Credentials, dingtalk: FakeDingTalk, fault: object, is_permanent: bool
) -> None:
    dingtalk.fail(FILE, fault)  # type: ignore[arg-type]  # a fault of the list above
    with pytest.raises(PlatformError) as caught:
        adapter.fetch_attachment(credentials, PICTURE, most_bytes=2000)
    assert caught.value.permanent is is_permanent
    assert dingtalk.count(DOWNLOAD) == 1
    assert not [path for path, _ in dingtalk.calls if path.startswith("foreign:")]


def test_address_of_a_file_must_be_in_the_answer(
    adapter: DingTalkAdapter, credentials: Credentials, dingtalk: FakeDingTalk
) -> None:
    dingtalk.fail(DOWNLOAD, (200, {"downloadUrl": ""}))
    with pytest.raises(PlatformError) as caught:
        adapter.fetch_attachment(credentials, PICTURE, most_bytes=2000)
    assert caught.value.permanent


def test_departments_are_all_up_to_the_root(adapter: DingTalkAdapter, credentials: Credentials) -> None:
    assert adapter.departments_of(credentials, "staff0001") == {"77", "12", "30", "1"}


def test_departments_are_told_when_the_token_was_replaced(
    adapter: DingTalkAdapter, credentials: Credentials, dingtalk: FakeDingTalk
) -> None:
    adapter.departments_of(credentials, "staff0001")
    dingtalk.token = "token-2"
    assert adapter.departments_of(credentials, "staff0001") == {"77", "12", "30", "1"}
    assert dingtalk.count(TOKEN) == 2


@pytest.mark.parametrize("errcode", [60121, 60011, 88])
def test_departments_are_refused_in_words(
    adapter: DingTalkAdapter, credentials: Credentials, dingtalk: FakeDingTalk, errcode: int
) -> None:
    dingtalk.fail(DEPARTMENTS, (200, {"errcode": errcode, "errmsg": "no"}))
    with pytest.raises(PlatformError, match=str(errcode)) as caught:
        adapter.departments_of(credentials, "staff0001")
    assert caught.value.permanent
    assert "token-1" not in str(caught.value)
