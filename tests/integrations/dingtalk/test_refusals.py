from __future__ import annotations

from typing import Any

import pytest

from integrations.dingtalk.refusals import refusal

PREFIX = "Forbidden.AccessDenied."


@pytest.mark.parametrize(
    ("status", "answer", "permanent", "words"),
    [
        (403, {"code": PREFIX + "QpsLimitForAppkeyAndApi"}, False, "too many calls"),
        (403, {"code": PREFIX + "QpmLimitForAppkeyAndApi"}, False, "too many calls"),
        (400, {"code": "send.too.fast"}, False, "too many calls"),
        (200, {"errcode": 90018}, False, "too many calls"),
        (200, {"errcode": 410100}, False, "too many calls"),
        (403, {"code": PREFIX + "ApiCountLimitForOrg"}, True, "quota"),
        (200, {"errcode": 90030}, True, "quota"),
        (403, {"code": PREFIX + "AccessTokenPermissionDenied"}, True, "permission"),
        (403, {"code": PREFIX + "IpNotInWhiteList"}, True, "address"),
        (200, {"errcode": 300001}, True, "reply address"),
        (200, {"errcode": 460101}, True, "too long"),
        (200, {"errcode": 430103}, True, "content filter"),
        (400, {"code": "contain.unsafe.url"}, True, "content filter"),
        (400, {"code": "invalid.openConversationId"}, True, "gone"),
        (400, {"code": "invalidParameter.robotCode.notExsit"}, True, "robot_code"),
        (400, {"code": "param.templateNotExist"}, True, "card_template_id"),
        (500, {"code": "unknownError"}, True, "variable"),
        (400, {"code": "invalidClientIdOrSecret"}, True, "app_secret"),
        (500, {"code": "system.error"}, False, "busy"),
        (500, None, False, "busy"),
        (503, "x", False, "busy"),
        (429, {}, False, "busy"),
        (200, {"errcode": -1}, False, "busy"),
        (400, {"code": "something.new"}, True, "something.new"),
        (200, {"errcode": 77777}, True, "77777"),
        (302, None, True, "http-302"),
    ],
)
def test_refusal_says_whether_to_retry_and_what_to_do_when_classified(
    status: int, answer: Any, permanent: bool, words: str
) -> None:
    found = refusal("send to the group", status, answer)
    assert found.permanent is permanent
    assert words in str(found)
    assert str(found).startswith("DingTalk refused to send to the group: ")


def test_scopes_and_address_are_named_when_the_answer_holds_them() -> None:
    denied = {
        "code": PREFIX + "AccessTokenPermissionDenied",
        "accessdenieddetail": {"requiredScopes": ["qyapi_robot_sendmsg"]},
    }
    assert "(qyapi_robot_sendmsg)" in str(refusal("x", 403, denied))
    listed = {"errcode": 60020, "errmsg": "访问ip不在白名单之中,request ip=203.0.113.7 appKey(ding)"}
    assert "203.0.113.7" in str(refusal("x", 200, listed))


@pytest.mark.parametrize("answer", [None, {"status": 1111, "wait": 5, "source": "x5", "punish": "deny"}])
def test_all_wait_five_minutes_when_the_address_is_blocked(answer: Any) -> None:
    found = refusal("x", 200, answer)
    assert (found.permanent, found.retry_after_s) == (False, 300.0)


def test_free_text_of_the_platform_is_not_repeated_when_refused() -> None:
    echo = {
        "code": "weird {code} s3cret",
        "message": "session=s3cret",
        "accessdenieddetail": {"requiredScopes": ["s 3cret"]},
    }
    assert "s3cret" not in str(refusal("x", 400, echo))


def test_retry_after_is_obeyed_when_it_is_a_number() -> None:
    assert refusal("x", 429, {}, "7").retry_after_s == 7.0
    assert refusal("x", 429, {}, "Wed, 21 Oct").retry_after_s is None
