"""Files, quoted messages, forwards and departments, fetched on a real socket."""

from __future__ import annotations

from dataclasses import replace

import pytest

from integrations.breaker import THRESHOLD
from integrations.errors import PlatformError, TooLarge
from integrations.feishu.adapter import FeishuAdapter
from integrations.feishu.refusals import FeishuError
from integrations.values import Attachment, Credentials, Quoted, ReplyTarget
from tests.integrations.doubles import MemoryTokens

from .fake_feishu import Answer, FakeFeishu, refused
from .fake_lookups import File

RESOURCE = "GET */resources/*"
NAMES = "GET */users/batch"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@pytest.fixture
def picture(feishu: FakeFeishu) -> Attachment:
    feishu.lookups.files["om_1", "img_v3_1", "image"] = File(PNG, "image/png")
    return Attachment("image", "image/om_1/img_v3_1")


# -- files


def test_picture_is_fetched_from_the_very_message_that_holds_it(
    adapter: FeishuAdapter, app: Credentials, picture: Attachment
) -> None:
    fetched = adapter.fetch_attachment(app, picture, most_bytes=1000)

    assert (fetched.data, fetched.media_type, fetched.name) == (PNG, "image/png", "")


@pytest.mark.parametrize("kind", ["file", "audio", "video"])
def test_other_files_are_fetched_by_their_key_and_keep_their_name(
    adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu, kind: str
) -> None:
    feishu.lookups.files["om_1", "file_1", "file"] = File(b"data")

    fetched = adapter.fetch_attachment(
        app,
        Attachment(kind, "file/om_1/file_1", "报告.pdf"),
        most_bytes=4,  # type: ignore[arg-type]
    )

    assert (fetched.data, fetched.name) == (b"data", "报告.pdf")


def test_file_that_is_json_itself_is_no_refusal(adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu) -> None:
    feishu.lookups.files["om_1", "file_1", "file"] = File(b'{"code": 0, "msg": "a file"}', "application/json")

    assert adapter.fetch_attachment(app, Attachment("file", "file/om_1/file_1"), most_bytes=100).data[:7] == b'{"code"'


def test_larger_file_than_wanted_is_not_kept(adapter: FeishuAdapter, app: Credentials, picture: Attachment) -> None:
    with pytest.raises(TooLarge, match="more than 50 bytes"):
        adapter.fetch_attachment(app, picture, most_bytes=50)


def test_large_files_do_not_make_the_app_look_broken(
    adapter: FeishuAdapter, app: Credentials, picture: Attachment
) -> None:
    for _time in range(2 * THRESHOLD):
        with pytest.raises(TooLarge):
            adapter.fetch_attachment(app, picture, most_bytes=50)

    assert adapter.fetch_attachment(app, picture, most_bytes=1000).data == PNG


@pytest.mark.parametrize("code", [234006, 234037])
def test_file_that_is_too_large_for_feishu_is_too_large(
    adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu, picture: Attachment, code: int
) -> None:
    feishu.trouble(RESOURCE, refused(code))

    with pytest.raises(TooLarge, match="too large"):
        adapter.fetch_attachment(app, picture, most_bytes=1000)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (234003, "not in this message"),
        (234004, "not in the chat"),
        (234008, "another app"),
        (234009, "external group"),
        (234038, "data protection"),
        (234040, "not visible"),
        (234043, "cannot be fetched"),
        (230110, "deleted"),
    ],
)
def test_refused_file_says_why_and_is_not_tried_again(
    adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu, picture: Attachment, code: int, words: str
) -> None:
    feishu.trouble(RESOURCE, refused(code))

    with pytest.raises(FeishuError, match=words) as error:
        adapter.fetch_attachment(app, picture, most_bytes=1000)

    assert error.value.permanent


def test_refusal_with_status_200_is_no_file(
    adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu, picture: Attachment
) -> None:
    feishu.trouble(RESOURCE, Answer(200, {"code": 234003, "msg": "File not in msg."}))

    with pytest.raises(FeishuError, match="234003"):
        adapter.fetch_attachment(app, picture, most_bytes=1000)


def test_file_is_fetched_with_a_new_token_when_the_old_one_is_refused(
    adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu, picture: Attachment, tokens: MemoryTokens
) -> None:
    adapter.fetch_own_id(app)
    feishu.tokens.clear()

    assert adapter.fetch_attachment(app, picture, most_bytes=1000).data == PNG


@pytest.mark.parametrize("key", ["", "img_1", "image//img_1", "image/om_1/", "sticker/om_1/x"])
def test_key_that_was_not_made_here_is_refused_without_a_call(
    adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu, key: str
) -> None:
    with pytest.raises(PlatformError, match="does not come from Feishu"):
        adapter.fetch_attachment(app, Attachment("image", key), most_bytes=1000)

    assert feishu.calls == []


def test_key_cannot_lead_to_another_call(adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu) -> None:
    with pytest.raises(FeishuError):
        adapter.fetch_attachment(app, Attachment("image", "image/../../x/../y?z"), most_bytes=1000)

    assert feishu.calls[-1] == "GET /open-apis/im/v1/messages/%2E%2E/resources/%2E%2E%2Fx%2F%2E%2E%2Fy%3Fz"


# -- quoted messages


def test_quoted_message_is_told_with_its_writer_and_files(
    adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu, target: ReplyTarget
) -> None:
    rows = [[{"tag": "text", "text": "see "}, {"tag": "img", "image_key": "img_1"}]]
    feishu.lookups.says("om_0", {"title": "Plan", "content": rows}, "post")
    feishu.lookups.names["ou_ben"] = "Ben"

    assert adapter.fetch_quoted(app, "om_0", target) == Quoted(
        "om_0", "Plan\nsee", (Attachment("image", "image/om_0/img_1"),), "Ben", is_own=False, is_complete=True
    )


def test_mentions_in_a_quoted_message_are_named(
    adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu, target: ReplyTarget
) -> None:
    mentions = [
        {"key": "@_user_1", "id": "ou_bot", "id_type": "open_id", "name": "Clawd"},
        {"key": "@_user_10", "id": "ou_10", "id_type": "open_id", "name": "Ten"},
    ]
    feishu.lookups.says("om_0", {"text": "@_user_1 ask @_user_10"}, mentions=mentions)

    quoted = adapter.fetch_quoted(replace(app, own_id="ou_bot"), "om_0", target)

    assert quoted is not None
    assert quoted.text == "ask @Ten"


def test_bot_knows_its_own_message(
    adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu, target: ReplyTarget
) -> None:
    feishu.lookups.says("om_mine", {"text": "42"}, sender=app.app_id)
    feishu.lookups.says("om_other", {"text": "43"}, sender="cli_other")

    own = [adapter.fetch_quoted(app, one, target) for one in ("om_mine", "om_other")]

    assert [(one.text, one.is_own, one.sender_name) for one in own if one] == [("42", True, ""), ("43", False, "")]
    assert feishu.asked(NAMES) == 0


def test_missing_scope_for_names_costs_only_the_name(
    adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu, target: ReplyTarget
) -> None:
    feishu.lookups.says("om_0", {"text": "hello"})
    feishu.trouble(NAMES, refused(99991672))

    assert adapter.fetch_quoted(app, "om_0", target) == Quoted("om_0", "hello", is_complete=True)


@pytest.mark.parametrize("fields", [{"deleted": True}, {"chat_id": "oc_other"}])
def test_message_that_is_gone_or_of_another_chat_is_not_quoted(
    adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu, target: ReplyTarget, fields: dict[str, object]
) -> None:
    feishu.lookups.says("om_0", {"text": "secret"}, **fields)

    assert adapter.fetch_quoted(app, "om_0", target) is None


@pytest.mark.parametrize("code", [230002, 230050, 230110, 231003])
def test_message_that_the_bot_cannot_see_is_not_quoted(
    adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu, target: ReplyTarget, code: int
) -> None:
    feishu.trouble("GET */im/v1/messages/*", refused(code))

    assert adapter.fetch_quoted(app, "om_0", target) is None


def test_trouble_with_a_quoted_message_is_told(
    adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu, target: ReplyTarget
) -> None:
    feishu.trouble("GET */im/v1/messages/*", refused(99991672))

    with pytest.raises(FeishuError, match="scope"):
        adapter.fetch_quoted(app, "om_0", target)


# -- forwards


def test_forwarded_messages_are_told_in_their_order_with_their_writers(
    adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu, target: ReplyTarget
) -> None:
    says = feishu.lookups.says
    forward = says("om_f", {"content": "Merged and Forwarded Message"}, "merge_forward", sender="ou_alice")
    elsewhere = {"chat_id": "oc_other", "upper_message_id": "om_f"}
    first = says("om_a", {"text": "Where is it?"}, sender="ou_ben", **elsewhere)
    second = says("om_b", {"file_key": "f", "file_name": "map.pdf"}, "file", sender="ou_carl", **elsewhere)
    third = says("om_c", {"text": "Thanks"}, sender="ou_ben", **elsewhere)
    empty = says("om_d", {"file_key": "f"}, "folder", sender="ou_ben", **elsewhere)
    feishu.lookups.items["om_f"] = [forward, third, first, empty, second]
    feishu.lookups.names = {"ou_alice": "Alice", "ou_carl": "Carl"}

    quoted = adapter.fetch_quoted(app, "om_f", target)

    assert quoted is not None
    assert quoted.text == "A: Where is it?\nCarl: [map.pdf]\nA: Thanks"
    assert (quoted.sender_name, quoted.attachments) == ("Alice", ())


# -- departments


def test_person_is_in_departments_and_in_those_above_them(
    adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu
) -> None:
    feishu.lookups.departments["ou_ann"] = ["od-team", "od-board"]
    feishu.lookups.parents = {"od-team": "od-sales", "od-sales": "od-china"}
    feishu.lookups.custom_ids = {"od-team": "T1", "od-sales": "S1", "od-china": "C1", "od-board": "B1"}

    found = adapter.departments_of(app, "ou_ann")

    assert found == {"od-team", "T1", "od-sales", "S1", "od-china", "C1", "od-board", "B1"}


def test_own_departments_are_told_where_the_app_may_not_read_departments(
    adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu
) -> None:
    feishu.lookups.departments["ou_ann"] = ["od-team"]
    feishu.trouble("GET */departments/*", refused(99991672), times=2)

    assert adapter.departments_of(app, "ou_ann") == {"od-team"}


def test_passing_trouble_with_departments_is_told(adapter: FeishuAdapter, app: Credentials, feishu: FakeFeishu) -> None:
    feishu.lookups.departments["ou_ann"] = ["od-team"]
    feishu.trouble("GET */departments/*", refused(2200))

    with pytest.raises(FeishuError):
        adapter.departments_of(app, "ou_ann")


def test_person_outside_the_contact_range_has_no_departments_that_could_be_told(
    adapter: FeishuAdapter, app: Credentials
) -> None:
    with pytest.raises(FeishuError, match="contact range") as error:
        adapter.departments_of(app, "ou_stranger")

    assert error.value.permanent
