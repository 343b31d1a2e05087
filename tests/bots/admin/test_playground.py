from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model

from bots.models import Message
from tests import factories


def test_bots_that_are_enabled_can_be_chosen(browser):
    factories.bot(slug="on", name="On")
    factories.bot(slug="off", name="Off", is_enabled=False)

    text = browser.get("/admin/playground/").content.decode()

    assert "/admin/playground/on/" in text
    assert "/admin/playground/off/" not in text


@pytest.mark.parametrize("slug", ["off", "none"])
def test_a_bot_that_cannot_answer_has_no_page(browser, slug):
    factories.bot(slug="off", is_enabled=False)

    assert browser.get(f"/admin/playground/{slug}/").status_code == 404


def test_what_this_person_said_before_is_there_again(browser):
    bot = factories.bot(slug="helper")
    mine, other = (f"user:{pk}" for pk in (get_user_model().objects.get().pk, 999))
    question = factories.web_question(bot, "Where is <b>it</b>?", scope_key=mine, status="delivered")
    Message.objects.create(conversation=question.conversation, role="assistant", reply_to=question, text="There.")
    factories.web_question(bot, "A stranger's words", scope_key=other)

    text = browser.get("/admin/playground/helper/").content.decode()

    assert "Where is &lt;b&gt;it&lt;/b&gt;?" in text
    assert "There." in text
    assert "stranger" not in text


def test_playground_is_for_staff(browser_of):
    factories.bot(slug="helper")

    assert browser_of().get("/admin/playground/helper/").status_code == 200
    assert browser_of("service", is_staff=False).get("/admin/playground/helper/").status_code == 302


def test_page_holds_no_inline_script(browser):
    factories.bot(slug="helper")

    text = browser.get("/admin/playground/helper/").content.decode()

    assert "<script>" not in text
    assert "onclick=" not in text
