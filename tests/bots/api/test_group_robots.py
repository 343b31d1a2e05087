"""Group robots over REST: secrets go in and stay in, a push tells its outcome."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from clawdbot_site.security.key_ring import fingerprint
from integrations import breaker, pacing
from integrations.models import GroupRobot
from monitoring.models import AuditLog
from tests import factories
from tests.integrations.dingtalk.fake_dingtalk import CUT_AFTER, ROBOT, FakeDingTalk

pytestmark = pytest.mark.django_db
TOKEN = "exampletoken0123456789"
URL = f"https://oapi.dingtalk.com/robot/send?access_token={TOKEN}"
BODY = {"name": "Ops", "platform": "dingtalk", "webhook_url": URL, "signing_secret": "SECs"}


@pytest.fixture
def dingtalk(settings: Any) -> Iterator[FakeDingTalk]:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    pacing.buckets.cache_clear()
    breaker.forget()
    with FakeDingTalk(robots={TOKEN: ""}) as fake:
        yield fake


@pytest.fixture
def push_path(dingtalk: FakeDingTalk) -> str:
    robot = factories.group_robot(webhook_url=f"{dingtalk.oapi_url}{ROBOT}?access_token={TOKEN}", signing_secret="")
    return f"/api/v1/group-robots/{robot.pk}/push/"


def test_secrets_go_in_and_only_fingerprints_come_out(rest):
    made = rest.post("/api/v1/group-robots/", {**BODY, "webhook_url": f"{URL}&timestamp=1"})

    assert made.status_code == 201, made.content
    robot = GroupRobot.objects.get()
    assert (robot.webhook_url, robot.signing_secret) == (URL, "SECs")
    assert made.json()["webhook_url_fingerprint"] == fingerprint(URL)
    shown = made.content.decode() + rest.get("/api/v1/group-robots/").content.decode()
    assert TOKEN not in shown
    assert "SECs" not in shown


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"webhook_url": "https://oapi.dingtalk.com/robot/send"}, "webhook_url"),
        ({"webhook_url": URL.replace("dingtalk", "thief")}, "webhook_url"),
        ({"webhook_url": None}, "webhook_url"),
        ({"platform": "web"}, "platform"),
    ],
)
def test_robot_is_refused_when_nothing_could_be_sent_by_it(rest, changes, field):
    body = {name: value for name, value in {**BODY, **changes}.items() if value is not None}
    response = rest.post("/api/v1/group-robots/", body)

    assert response.status_code == 400
    assert list(response.json()["error"]["fields"]) == [field]
    assert not GroupRobot.objects.exists()


def test_feishus_robots_are_kept_by_their_own_address(rest):
    hook = "https://open.feishu.cn/open-apis/bot/v2/hook/0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
    made = rest.post("/api/v1/group-robots/", {"name": "Ops", "platform": "feishu", "webhook_url": hook})

    assert made.status_code == 201, made.content
    assert GroupRobot.objects.get().webhook_url == hook
    refused = rest.post("/api/v1/group-robots/", {"name": "Ops", "platform": "feishu", "webhook_url": URL})
    assert "open.feishu.cn" in refused.json()["error"]["fields"]["webhook_url"][0]


def test_robot_keeps_its_secrets_and_its_platform_when_renamed(rest):
    robot = factories.group_robot(webhook_url=URL)
    path = f"/api/v1/group-robots/{robot.pk}/"

    assert rest.patch(path, {"name": "New"}).status_code == 200
    assert rest.patch(path, {"platform": "feishu"}).status_code == 400
    robot.refresh_from_db()
    assert (robot.name, robot.platform, robot.webhook_url) == ("New", "dingtalk", URL)


@pytest.mark.parametrize(
    ("words", "seen"),
    [({"text": "**95** %"}, "Disk\n\n**95** %"), ({"markdown": "**95** %"}, "#### Disk\n\n**95** %")],
)
def test_push_is_in_the_group_when_it_answers(client_with, push_path, dingtalk, words, seen):
    response = client_with("messages:write").post(push_path, {"title": "Disk", **words})

    assert (response.status_code, response.json()) == (200, {"outcome": "sent", "detail": ""})
    assert dingtalk.seen == [("robot", seen)]
    assert dingtalk.calls[-1][1]["msgtype"] == next(iter(words))
    assert AuditLog.objects.get(action="grouprobot.pushed").changes == {"outcome": "sent"}


def test_push_needs_its_own_scope(client_with, push_path, dingtalk):
    assert client_with("bots:read", "bots:write", "chat").post(push_path, {"text": "x"}).status_code == 403
    assert dingtalk.calls == []


@pytest.mark.parametrize("body", [{}, {"text": "a", "markdown": "b"}, {"text": " "}])
def test_push_wants_exactly_one_text(rest, push_path, body):
    assert rest.post(push_path, body).status_code == 400


def test_push_that_is_refused_says_why(rest, push_path, dingtalk):
    dingtalk.fail(ROBOT, (200, {"errcode": 310000, "errmsg": "keywords not in content"}))
    response = rest.post(push_path, {"text": "x"})

    assert (response.status_code, response.json()["error"]["code"]) == (502, "not_sent")
    assert "keywords" in response.json()["error"]["message"]


def test_push_says_that_nobody_knows(rest, push_path, dingtalk):
    dingtalk.fail(ROBOT, CUT_AFTER, CUT_AFTER)
    response = rest.post(push_path, {"text": "x"})

    assert (response.status_code, response.json()["outcome"]) == (202, "unknown")


def test_push_beyond_the_robots_minute_says_when_to_come_again(rest, push_path, dingtalk, monkeypatch):
    monkeypatch.setattr(pacing, "LONGEST_WAIT_S", 0.0)
    answers = [rest.post(push_path, {"text": "x"}) for _ in range(11)]

    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert 1 <= int(answers[-1]["Retry-After"]) <= 6
    assert len(dingtalk.seen) == 10
