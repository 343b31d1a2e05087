from __future__ import annotations

import pytest

from bots import addressing
from integrations.values import ReplyTarget
from tests import factories

pytestmark = pytest.mark.django_db


def test_a_target_that_a_newer_version_stored_is_still_an_address():
    question = factories.web_question()
    question.platform = "feishu"
    question.details["target"] = {"chat_id": "oc_1", "chat_type": "group", "message_id": "om_1", "of_tomorrow": 1}

    assert addressing.target_of(question) == ReplyTarget(chat_id="oc_1", chat_type="group", message_id="om_1")
