"""Groups: how the bot behaves in each of them, and the welcome that is said once."""

from __future__ import annotations

import pytest

from bots import chats, inbound, places, pushes, recalls, storing, tidying
from bots.models import Chat, Endpoint, Message
from integrations.values import BotAdded, BotRemoved, ChatOpened, MenuClicked, Recalled
from monitoring.models import AuditLog
from tests import factories
from tests.bots.conftest import work_off

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def endpoint() -> Endpoint:
    return factories.endpoint(bot=factories.bot(welcome_text="**Hello**, ask me."))


def welcomes() -> list[tuple[str, str]]:
    rows = Message.objects.filter(details__kind="push").order_by("received_at", "id")
    return [(row.conversation.chat_type, row.text) for row in rows]


def in_group(endpoint: Endpoint, chat_id: str, *, is_addressed: bool) -> bool:
    """Whether the door takes a message of this group."""
    endpoint = Endpoint.objects.select_related("bot__model", "credential").get(pk=endpoint.pk)
    text = factories.incoming("Hi", chat_id=chat_id, chat_type="group", is_addressed=is_addressed)
    return inbound.draft_of(endpoint, text) is not None


# -- policies --


@pytest.mark.parametrize(
    ("bot_policy", "chat_policy", "mentioned", "not_mentioned"),
    [
        ("mention", "", True, False),
        ("mention", "all", True, True),
        ("mention", "silent", False, False),
        ("all", "mention", True, False),
        ("silent", "", False, False),
        ("silent", "mention", True, False),
    ],
)
def test_a_group_may_differ_from_its_bot(bot_policy, chat_policy, mentioned, not_mentioned):
    endpoint = factories.endpoint(bot=factories.bot(group_policy=bot_policy))
    Chat.objects.create(endpoint=endpoint, chat_id="oc_1", group_policy=chat_policy)

    taken = in_group(endpoint, "oc_1", is_addressed=True), in_group(endpoint, "oc_1", is_addressed=False)

    assert taken == (mentioned, not_mentioned)


def test_other_groups_are_as_the_bot_is(endpoint):
    Chat.objects.create(endpoint=endpoint, chat_id="oc_1", group_policy="silent")

    assert in_group(endpoint, "oc_2", is_addressed=True)


def test_a_change_counts_at_once_and_the_last_one_leaves_nothing(endpoint):
    chat = Chat.objects.create(endpoint=endpoint, chat_id="oc_1", group_policy="silent")
    other = Chat.objects.create(endpoint=endpoint, chat_id="oc_2", group_policy="all")
    chat.group_policy = "mention"
    chat.save()
    changed = Endpoint.objects.get(pk=endpoint.pk).chat_policies
    chat.delete()
    other.group_policy = ""
    other.save()

    assert changed == {"oc_1": "mention", "oc_2": "all"}
    assert Endpoint.objects.get(pk=endpoint.pk).chat_policies == {}


def test_a_change_counts_at_the_door_at_once(endpoint):
    before = places.look_up(endpoint.key).endpoint.chat_policies
    Chat.objects.create(endpoint=endpoint, chat_id="oc_1", group_policy="silent")
    remembered = places.recall(endpoint.key)

    assert (before, remembered) == ({}, None)


def test_a_direct_chat_has_no_policy(endpoint):
    Chat.objects.create(endpoint=endpoint, chat_id="oc_1", group_policy="silent")
    endpoint.refresh_from_db()

    assert inbound.draft_of(endpoint, factories.incoming("Hi", chat_id="oc_1")) is not None


# -- welcome --


def test_a_group_is_greeted_once_each_time_the_bot_comes(endpoint):
    for event_id in ("e1", "e1", "e2"):
        inbound.handle(endpoint, BotAdded("oc_1", event_id, chat_name="Sales"))

    assert welcomes() == [("group", "**Hello**, ask me.")] * 2
    assert [(chat.name, chat.left_at) for chat in Chat.objects.all()] == [("Sales", None)]


def test_a_group_where_the_bot_is_silent_is_not_greeted(endpoint):
    Chat.objects.create(endpoint=endpoint, chat_id="oc_1", group_policy="silent")
    endpoint.refresh_from_db()

    inbound.handle(endpoint, BotAdded("oc_1", "e1"))

    assert welcomes() == []


def test_a_bot_without_a_welcome_says_nothing():
    endpoint = factories.endpoint()
    inbound.handle(endpoint, BotAdded("oc_1", "e1"))
    inbound.handle(endpoint, ChatOpened("oc_2", "ou_1"))

    assert welcomes() == []


def test_a_person_is_greeted_at_the_first_opening_only(endpoint):
    for _ in range(2):
        inbound.handle(endpoint, ChatOpened("oc_1", "ou_1"))

    assert welcomes() == [("direct", "**Hello**, ask me.")]


def test_a_person_who_has_written_before_is_not_greeted(endpoint):
    storing.store([factories.draft(endpoint, "Hi", chat_id="oc_1")])

    inbound.handle(endpoint, ChatOpened("oc_1", "ou_1"))

    assert welcomes() == []


def test_a_welcome_reaches_the_chat_and_is_no_admins_doing(on_dingtalk, dingtalk_app):
    endpoint = on_dingtalk({"welcome_text": "Hello, ask me."})
    inbound.handle(endpoint, BotAdded("cidGroup==", "e1"))

    pushes.work(Message.objects.get().conversation_id)

    assert dingtalk_app.seen == [("group", "Hello, ask me.")]
    assert not AuditLog.objects.filter(action="message.pushed").exists()


def test_a_group_that_the_bot_left_is_kept_as_left(endpoint):
    inbound.handle(endpoint, BotAdded("oc_1", "e1"))
    inbound.handle(endpoint, BotRemoved("oc_1"))
    left_at = Chat.objects.get().left_at
    inbound.handle(endpoint, BotAdded("oc_1", "e2"))

    assert (left_at is not None, Chat.objects.get().left_at) == (True, None)


def test_groups_that_wrote_are_listed_for_the_admin(endpoint, says, on_dingtalk):
    place = on_dingtalk()
    says(place, "Hi", target=factories.ReplyTarget("cidG", "group", sender_id="staff0001"))
    says(place, "Hi")

    found = [chats.find_new(), chats.find_new()]

    assert (found, [chat.chat_id for chat in Chat.objects.all()]) == ([1, 0], ["cidG"])


# -- menus --


@pytest.mark.parametrize(
    ("key", "text", "kind"),
    [("new", "/new", "command"), ("/帮助", "/帮助", "command"), ("What is new?", "What is new?", "text")],
)
def test_an_item_of_the_menu_is_a_command_or_a_question(endpoint, key, text, kind):
    draft = inbound.handle(endpoint, MenuClicked(key, "ou_1", "e1")).draft

    assert (draft.text, draft.details["kind"], draft.external_id) == (text, kind, "menu:e1")


def test_an_item_of_the_menu_belongs_to_the_persons_chat(on_dingtalk, says):
    endpoint = on_dingtalk()
    said = says(endpoint, "Hi", chat="cid7")

    draft = inbound.handle(endpoint, MenuClicked("status", "staff0001", "e1")).draft

    assert (draft.scope_key, draft.chat_id) == (said.conversation.scope_key, "cid7")


def test_stop_in_the_menu_stops_at_once(on_dingtalk, says):
    endpoint = on_dingtalk()
    waiting = says(endpoint, "A long story", chat="cid7")

    inbound.handle(endpoint, MenuClicked("stop", "staff0001", "e1"))

    waiting.refresh_from_db()
    assert waiting.cancel_requested_at is not None


# -- recalls --


def test_a_message_that_comes_after_its_recall_is_not_answered(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk()
    inbound.handle(endpoint, Recalled("m-1"))

    late = says(endpoint, "too late", message_id="m-1")
    work_off(late)

    assert (late.status, late.text, dingtalk_app.seen) == ("cancelled", "", [])


def test_a_message_taken_back_while_it_waits_is_cancelled(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk()
    waiting = says(endpoint, "Hi", message_id="m-1")

    inbound.handle(endpoint, Recalled("m-1"))
    work_off(waiting)

    assert (waiting.status, dingtalk_app.seen, Message.objects.count()) == ("cancelled", [], 1)


def test_a_recall_is_forgotten_after_a_day(endpoint):
    inbound.handle(endpoint, Recalled("m-1"))
    tidying.tidy()
    kept = Message.objects.count()
    Message.objects.update(received_at=Message.objects.get().received_at - recalls.KEPT_FOR)

    tidying.tidy()

    assert (kept, Message.objects.count()) == (1, 0)
