"""What a message from Feishu holds: rich text, files, what can be put into words and what cannot."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.values import Attachment

from .payloads import message, read


def test_rich_text_is_read_with_title_links_code_and_pictures() -> None:
    rows = [
        [{"tag": "text", "text": "read "}, {"tag": "a", "href": "https://e.com/a", "text": "this"}],
        [{"tag": "at", "user_id": "@_user_1", "user_name": "Clawd"}, {"tag": "emotion", "emoji_type": "SMILE"}],
        [{"tag": "img", "image_key": "img_1"}, {"tag": "new", "text": "?"}, 5],
        [{"tag": "media", "file_key": "file_1", "image_key": "img_2", "file_name": "v.mp4"}],
        [{"tag": "code_block", "language": "PYTHON", "text": "print(1)\n"}],
    ]
    wanted = "Titel\nread this (https://e.com/a)\n@_user_1[SMILE]\n?\n\n\n```python\nprint(1)\n```"

    for content in ({"title": "Titel", "content": rows}, {"zh_cn": {"title": "Titel", "content": rows}}):
        incoming = read(message(content, "post"))
        assert incoming.text == wanted
        assert incoming.attachments == (
            Attachment("image", "image/om_1/img_1"),
            Attachment("video", "file/om_1/file_1", "v.mp4"),
        )
        assert incoming.kind == "text"


@pytest.mark.parametrize(
    ("kind", "content", "attachment"),
    [
        ("image", {"image_key": "img_1"}, Attachment("image", "image/om_1/img_1")),
        ("file", {"file_key": "f", "file_name": "报告.pdf"}, Attachment("file", "file/om_1/f", "报告.pdf")),
        ("audio", {"file_key": "f", "duration": 2000}, Attachment("audio", "file/om_1/f")),
        (
            "media",
            {"file_key": "f", "image_key": "i", "file_name": "v.mp4"},
            Attachment("video", "file/om_1/f", "v.mp4"),
        ),
        ("post", {"content": [[{"tag": "img", "image_key": "img_1"}]]}, Attachment("image", "image/om_1/img_1")),
    ],
)
def test_file_without_words_is_something_to_answer(kind: str, content: Any, attachment: Attachment) -> None:
    incoming = read(message(content, kind))

    assert (incoming.kind, incoming.text, incoming.attachments) == ("text", "", (attachment,))


@pytest.mark.parametrize(
    ("kind", "content", "text"),
    [
        ("sticker", {"file_key": "file_1"}, "[Sticker]"),
        (
            "location",
            {"name": "西湖", "longitude": "120.1", "latitude": "30.2"},
            "[Location: 西湖 (30.2, 120.1)]",
        ),
        ("location", {"name": "Lake"}, "[Location: Lake]"),
        ("location", {"longitude": "120.1", "latitude": "30.2"}, "[Location: (30.2, 120.1)]"),
        ("merge_forward", {"content": "Merged and Forwarded Message"}, "[Forwarded messages]"),
        (
            "interactive",
            {
                "title": "Leave",
                "elements": [
                    [
                        {"tag": "text", "text": "Ben asks for "},
                        {"tag": "a", "href": "https://e.com/1", "text": "2 days"},
                    ],
                    [
                        {"tag": "button", "text": "Agree"},
                        {"tag": "button", "text": {"content": "Refuse"}},
                        {"tag": "hr"},
                    ],
                    [{"tag": "button"}, {"tag": "img", "image_key": "img_1"}],
                ],
            },
            "Leave\nBen asks for 2 days (https://e.com/1)\n[Agree][Refuse]\n---",
        ),
        ("interactive", {"title": None, "elements": [{"tag": "text", "text": "bare row"}]}, "bare row"),
    ],
)
def test_what_is_no_text_is_put_into_words(kind: str, content: Any, text: str) -> None:
    incoming = read(message(content, kind))

    assert (incoming.kind, incoming.text) == ("text", text)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("folder", {"file_key": "file_1", "file_name": "x"}),
        ("share_chat", {"chat_id": "oc_1"}),
        ("share_user", {"user_id": "ou_1"}),
        ("hongbao", {"text": "[red packet]"}),
        ("a_new_type", {"anything": [1]}),
        ("sticker", {}),
        ("location", {"file_key": "x"}),
        ("interactive", {"elements": 5}),
        ("image", {"image_key": 5}),
        ("text", {"text": "  "}),
        ("text", {"text": 5}),
        ("text", "not json"),
        ("text", "[]"),
        ("post", {"content": "x"}),
        ("post", {}),
        (None, {}),
    ],
)
def test_what_cannot_be_answered_is_unsupported(kind: Any, content: Any) -> None:
    incoming = read(message(content, kind))

    assert (incoming.kind, incoming.text.strip(), incoming.attachments) == ("unsupported", "", ())


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["text", "post", "image", "interactive", "location", "x"]), ANYTHING, ANYTHING)
def test_no_content_of_a_message_is_an_error(kind: str, content: Any, mentions: Any) -> None:
    assert read(message(json.dumps(content), kind, mentions=mentions)).message_id == "om_1"
