"""``manage.py configure``: the database as the files say, and files as the database is."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from django.contrib import admin
from django.core.management import CommandError, call_command
from django.forms.models import modelform_factory

from bots.models import Bot, Conversation, Endpoint, WordList
from clawdbot_site.security.models import IPRule, Team, User
from inference.models import LanguageModel, ModelKey
from integrations.models import GroupRobot, PlatformCredential
from monitoring.admin import AuditedModelAdmin
from monitoring.configuration.kinds import all_kinds
from monitoring.models import AlertChannel, AlertRule, AuditLog
from tests import factories

pytestmark = pytest.mark.django_db
DOCUMENT = (Path(__file__).resolve().parents[2] / "docs/configuration-as-code.md").read_text("utf-8")
ROBOT_URL = "https://oapi.dingtalk.com/robot/send?access_token=robottoken0123456789"
SECRETS = {
    "QWEN_API_KEY": "canary-key-1",
    "FEISHU_APP_SECRET": "canary-secret",
    "FEISHU_VERIFICATION_TOKEN": "canary-token",
    "FEISHU_ENCRYPT_KEY": "canary-encrypt-key",
    "DUTY_ROBOT_URL": ROBOT_URL,
    "DUTY_ROBOT_SECRET": "SECcanary",
    "PAGER_URL": "https://pager.example.com/canary",
    "PAGER_SECRET": "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5",
}
ALL_ROWS = (AlertChannel, Endpoint, WordList, Bot, ModelKey, LanguageModel, PlatformCredential, GroupRobot)
ALL_ROWS += (IPRule, Team, User, AlertRule)
NOTHING = "Nothing to change. As the files say: {}.\n"
Configure = Callable[..., str]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Runs the command on this text; options as the command takes them."""

    def run(text: str = "", **options: object) -> str:
        files = [tmp_path / "clawdbot.yaml"] if text else []
        for file in files:
            file.write_text(text, "utf-8")
        out = StringIO()
        try:
            call_command("configure", *map(str, files), stdout=out, no_color=True, **options)
        except SystemExit as end:
            out.write(f"exit {end.code}")
        return out.getvalue()

    return run


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The one of the document, with all that it refers to."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    for name, text in {"secrets/qwen-second-key": "canary-key-2\n", "words/internal.txt": "Falcon\n"}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text, "utf-8")
    found = re.search(r"```yaml\n(users:.*?)```", DOCUMENT, re.DOTALL)
    assert found
    return found[1]


def lines_of(*parts: str) -> str:
    return "\n".join(parts) + "\n"


# -- the example --


def test_the_documents_example_makes_what_it_says_and_a_second_run_changes_nothing(configure, example):
    first = configure(example)
    entries = AuditLog.objects.count()

    assert first.endswith("Done: 13 created, 2 changed, 0 deleted; 0 were right.\n")
    assert configure(example) == NOTHING.format(15)
    assert AuditLog.objects.count() == entries
    bot = Bot.objects.get()
    assert (bot.model.api_key, bot.moderator.name, bot.team.name) == ("canary-key-1", "guard", "Support")
    assert bot.system_prompt.endswith("short sentences.\nSay so when you do not know.")
    assert bot.model.keys.get().key == "canary-key-2"
    assert Endpoint.objects.get().credential.encrypt_key == "canary-encrypt-key"
    assert WordList.objects.get().text == "Falcon"
    assert [user.username for user in Team.objects.get().members.all()] == ["li.na"]
    assert not User.objects.get().has_usable_password()
    assert AlertRule.objects.get(name="machine.disk").threshold == 85
    assert AlertChannel.objects.get().place() == (str(GroupRobot.objects.get().pk), "")


@pytest.mark.rule("U1")
def test_every_change_leaves_the_entry_of_the_admin_with_the_command_as_its_actor(configure, example):
    configure(example)
    configure(export=True)

    entries = AuditLog.objects.order_by("id")
    assert {(entry.actor_kind, entry.actor_label) for entry in entries} == {("system", "command configure")}
    assert sorted(entry.action for entry in entries) == [
        "alertchannel.created",
        "alertrule.changed",
        "alertrule.changed",
        "bot.created",
        "configuration.exported",
        "endpoint.created",
        "grouprobot.created",
        "iprule.created",
        "iprule.created",
        "languagemodel.created",
        "languagemodel.created",
        "modelkey.created",
        "platformcredential.created",
        "team.created",
        "user.created",
        "wordlist.created",
    ]


@pytest.mark.rule("E10")
def test_no_secret_is_shown_exported_or_audited(configure, example):
    example += (
        "  - {name: Pager, kind: webhook, url: {env: PAGER_URL}, secret: {env: PAGER_SECRET}}\n"  # one sealed value
    )
    said = configure(example)
    said += configure(example.replace("temperature: 0.3", "temperature: 0.4"))
    said += configure(export=True)
    said += str(list(AuditLog.objects.values_list("changes", flat=True)))

    assert [secret for secret in [*SECRETS.values(), "canary"] if secret in said] == []


def test_an_export_changes_nothing_here_and_makes_the_same_elsewhere(configure, example, monkeypatch):
    configure(example)
    exported = configure(export=True)

    assert configure(exported) == NOTHING.format(15)
    for model in ALL_ROWS:  # another installation
        model.objects.all().delete()
    for variable in re.findall(r"env: (\w+)", exported):
        monkeypatch.setenv(variable, ROBOT_URL if "URL" in variable else "canary")
    configure(re.sub(r"# (\w+: \{env)", r"\1", exported))
    assert configure(export=True) == exported
    assert LanguageModel.objects.get(name="qwen").api_key == "canary"


# -- plans --


def test_a_plan_shows_old_and_new_and_of_secrets_only_that_they_changed(configure, example, monkeypatch):
    configure(example)
    monkeypatch.setenv("QWEN_API_KEY", "canary-new")
    changed = example.replace("temperature: 0.3", "temperature: 0.5").replace("groups: [operator]", "groups: []")

    assert (
        configure(changed, dry_run=True)
        == lines_of(
            "~ models/qwen",
            "    api_key: (changed)",
            "~ users/li.na",
            '    groups: ["operator"] -> []',
            "~ bots/helpdesk",
            "    temperature: 0.3 -> 0.5",
            "To do: 0 to create, 3 to change, 0 to delete; 12 are right.",
        )
        + "exit 2"
    )
    assert (Bot.objects.get().temperature, LanguageModel.objects.get(name="qwen").api_key) == (0.3, "canary-key-1")


def test_a_dry_run_changes_nothing_at_all_and_says_by_its_status_whether_there_is_something_to_do(configure, example):
    assert configure(example, dry_run=True).endswith("0 to delete; 0 are right.\nexit 2")
    assert [model.__name__ for model in ALL_ROWS if model.objects.exists()] == []
    assert not AuditLog.objects.exists()

    configure(example)

    assert configure(example, dry_run=True) == NOTHING.format(15)


def test_a_secret_that_is_the_same_keeps_its_date(configure, example):
    configure(example)
    before = LanguageModel.objects.get(name="qwen").secret_set_at

    configure(example.replace("max_context_tokens: 32768", "max_context_tokens: 16384"))

    model = LanguageModel.objects.get(name="qwen")
    assert (model.max_context_tokens, model.secret_set_at) == (16384, before)


def test_what_a_file_does_not_say_is_left_as_it_is(configure):
    bot = factories.bot(slug="sales", temperature=1.5, system_prompt="Sell.")
    factories.bot(slug="other")

    configure("bots:\n  - slug: sales\n    name: Sales\n")

    bot.refresh_from_db()
    assert (bot.name, bot.temperature, bot.system_prompt) == ("Sales", 1.5, "Sell.")
    assert Bot.objects.filter(slug="other").exists()


def test_null_takes_away_what_may_be_missing(configure):
    bot = factories.bot(slug="sales", fallback_model=factories.model())

    configure("bots: [{slug: sales, fallback_model: null}]")

    bot.refresh_from_db()
    assert bot.fallback_model is None


def test_a_secret_in_the_file_is_taken_only_where_it_is_allowed(configure):
    text = "models: [{name: m, engine: openai, base_url: 'https://llm.example.com/v1', api_key: sk-in-clear}]"

    with pytest.raises(CommandError) as refused:
        configure(text)
    configure(text, allow_literal_secrets=True)

    assert "sk-in-clear" not in str(refused.value)
    assert LanguageModel.objects.get().api_key == "sk-in-clear"


def test_a_stored_key_goes_to_no_other_host_without_being_given_again(configure):
    model = factories.model(name="m", engine="openai", base_url="https://llm.example.com/v1", api_key="sk-1")

    with pytest.raises(CommandError, match="api_key: Give it again: the address now leads to another host"):
        configure("models: [{name: m, base_url: 'https://evil.example.net/v1'}]")

    model.refresh_from_db()
    assert model.base_url == "https://llm.example.com/v1"


def test_several_files_are_read_as_one_and_one_may_be_standard_input(tmp_path, monkeypatch):
    (tmp_path / "bots.yaml").write_text("bots: [{slug: sales, name: Sales, model: m}]", "utf-8")
    monkeypatch.setattr(sys, "stdin", StringIO("models: [{name: m, engine: echo}]"))

    call_command("configure", str(tmp_path / "bots.yaml"), "-", stdout=StringIO())

    assert Bot.objects.get().model.name == "m"


# -- deleting --


def test_pruning_deletes_what_is_no_longer_named_of_the_kinds_that_are(configure):
    factories.bot(slug="stays")
    old = factories.bot(slug="goes")
    Conversation.objects.create(bot=old, source="web", scope_key="s", platform="web")
    Team.objects.create(name="of another kind")

    said = configure("bots: [{slug: stays}]", prune=True, yes=True)

    assert said == lines_of(
        "- bots/goes, and with it conversations: 1", "Done: 0 created, 0 changed, 1 deleted; 1 were right."
    )
    assert [bot.slug for bot in Bot.objects.all()] == ["stays"]
    assert Team.objects.exists()
    assert list(AuditLog.objects.values_list("action", flat=True)) == ["bot.deleted"]


def test_pruning_without_yes_shows_what_would_go_and_deletes_nothing(configure):
    factories.bot(slug="goes")

    with pytest.raises(CommandError, match=r"^To delete: 1\. Look at them with --dry-run, then say --yes\.$"):
        configure("bots: []", prune=True)

    assert Bot.objects.exists()


def test_what_is_still_in_use_is_not_deleted_and_then_nothing_is(configure):
    bot = factories.bot(slug="uses", model=factories.model(name="used"))

    with pytest.raises(CommandError) as refused:
        configure("models: [{name: new, engine: echo}]", prune=True, yes=True)

    problem = f"models/used cannot be deleted. Still in use by: bot {bot.name}."
    assert str(refused.value) == f"{problem}\nNothing was changed."
    assert [model.name for model in LanguageModel.objects.all()] == ["used"]


def test_one_takes_anothers_place_in_one_go(configure):
    """The old endpoint stands in the way of the new one; the old model is in use until the new one is there."""
    place = factories.endpoint(
        bot=factories.bot(slug="a", model=factories.model(name="old")), credential=factories.credential(name="App")
    )
    factories.bot(slug="b", model=place.bot.model)
    text = (
        "models: [{name: new, engine: echo}]\nbots: [{slug: a, model: new}, {slug: b, model: new}]\n"
        "endpoints: [{bot: b, credential: App}]"
    )

    configure(text, prune=True, yes=True)

    assert [(one.bot.slug, one.is_enabled) for one in Endpoint.objects.all()] == [("b", True)]
    assert [model.name for model in LanguageModel.objects.all()] == ["new"]


def test_blocks_that_clawdbot_set_itself_and_accounts_are_never_pruned(configure):
    IPRule.objects.create(action="block", network="203.0.113.9", scope="site", is_automatic=True)
    User.objects.create_user("li.na")

    assert configure("ip_rules: []\nusers: []", prune=True, yes=True) == NOTHING.format(0)
    assert (IPRule.objects.count(), User.objects.count()) == (1, 1)


# -- nothing is forgotten --

NOT_IN_FILES = {
    "users": {"password", "last_login", "date_joined", "user_permissions"},
    "models": {"rotate_by"},  # counts from the secret
    "model_keys": {"rotate_by"},
    "credentials": {"rotate_by"},
    "ip_rules": {"confirm_lockout", "endpoint_id"},
    "word_lists": {"file"},
}


NOT_DESCRIBED = {
    "apiclient",  # its key is shown once, to who makes it
    "silence",  # of the moment
    "chat",  # bots learn of them from the platforms
    "periodictask",  # ClawdBot's own
}


def test_all_that_admins_set_up_can_stand_in_a_file_or_is_known_not_to():
    pages = {model: page for model, page in admin.site._registry.items() if isinstance(page, AuditedModelAdmin)}
    described = {kind.model for kind in all_kinds().values()}

    assert {model._meta.model_name for model in pages if model not in described} == NOT_DESCRIBED


def test_all_that_a_form_of_the_admin_asks_for_can_stand_in_a_file():
    """A new field of a model fails here until its kind knows it."""
    kinds = [kind for kind in all_kinds().values() if kind.fields]
    missing = {
        kind.name: set(modelform_factory(kind.model, form=kind.form or kind.admin.form, fields="__all__").base_fields)
        - set(kind.names)
        for kind in kinds
    }

    assert {name: fields for name, fields in missing.items() if fields} == NOT_IN_FILES
