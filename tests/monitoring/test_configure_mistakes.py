"""What ``manage.py configure`` says to files that are wrong: where, what, and what to write instead. No tracebacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from bots.models import Bot
from inference.models import LanguageModel
from tests import factories

pytestmark = pytest.mark.django_db

FEISHU = (
    "{name: App, platform: feishu, app_id: cli_1, app_secret: {env: A_SECRET}, verification_token: {env: A_SECRET}}"
)
MISTAKES = {
    "bots: [": "1: This is no YAML: expected the node content, but found '<stream end>'.",
    "a\x07b": "1: This is no YAML: it holds characters that no text has.",
    "": "1: Here kinds, like “bots:” should stand.",
    "- bots": "1: Here kinds, like “bots:” should stand.",
    "[" * 1000: "1: This is nested too deeply.",
    "bots:\n- slug: !!python/name:os.system a": (
        "2: This is no YAML: could not determine a constructor for the tag 'tag:yaml.org,2002:python/name:os.system'."
    ),
    "bot: []": "1: There is no kind bot. Known are: bots.",
    "bots: {slug: a}": "1: Below “bots:” a list is expected: each entry begins with “- ”.",
    "bots: [demo]": "1: Here fields, like “slug: …” should stand.",
    "bots:\n  - slug: a\n    temprature: 1": "3: bots have no field temprature. Known are: temperature.",
    "bots:\n  - name: A": "2: bots: slug is missing, or is no text: by slug each entry is known.",
    "bots:\n  - slug: a\n    slug: b": "3: slug stands here twice, first in line 2.",
    "models:\n- {name: m, engine: echo}\n- {name: m, engine: echo}": (
        "3: models/m: It is described already, at {file}:2."
    ),
    "ip_rules:\n- action: block\n  network: 10.0.0.0/33\n  scope: site": (
        "3: ip_rules/block/10.0.0.0/33/site: network: 10.0.0.0/33 is no network. Write it like 10.0.0.0/8."
    ),
    "ip_rules:\n- {action: block, network: 10.0.0.0/8, scope: site, expires_at: 2027-13-01}": (
        "2: There is no such date, number or character. If it is a text, quote it."
    ),
    'bots:\n- slug: demo\n  name: "half a \\ud83d"': (
        "3: There is no such date, number or character. If it is a text, quote it."
    ),
    'bots:\n- slug: demo\n  allowed_users: ["a\\0b"]': (
        "3: There is no such date, number or character. If it is a text, quote it."
    ),
    'models:\n- name: echo\n  api_key: {file: "a\\0b"}': (
        "3: There is no such date, number or character. If it is a text, quote it."
    ),
    "bots:\n- slug: demo\n  is_enabled: !!bool maybe": (
        "3: There is no such date, number or character. If it is a text, quote it."
    ),
    "bots:\n- slug: demo\n  name: !!timestamp soon": (
        "3: There is no such date, number or character. If it is a text, quote it."
    ),
    "? [a]\n: b": "1: A name must be a plain word.\nNothing was changed.",
    "ip_rules:\n- {action: block, network: 10.0.0.0/8, scope: site, expires_at: 9999-12-31T23:59:59Z}": (
        "2: ip_rules/block/10.0.0.0/8/site: expires_at: A moment is expected, like 2027-01-31T18:00:00+08:00."
    ),
    "ip_rules:\n- {action: block, network: 10.0.0.0/8, scope: site, expires_at: soon}": (
        "2: ip_rules/block/10.0.0.0/8/site: expires_at: A moment is expected, like 2027-01-31T18:00:00+08:00."
    ),
    "bots:\n- slug: demo\n  temperature: 2.5": (
        "3: bots/demo: temperature: Ensure this value is less than or equal to 2.0."
    ),
    "bots:\n- slug: demo\n  temperature: warm": "3: bots/demo: temperature: A number is expected.",
    "bots:\n- slug: demo\n  max_tokens: 10.5": "3: bots/demo: max_tokens: A whole number is expected.",
    "bots:\n- slug: demo\n  is_enabled: 1": "3: bots/demo: is_enabled: true or false is expected.",
    "bots:\n- slug: demo\n  name: 2027": (
        "3: bots/demo: name: A text is expected: quote it, if it looks like a number or a date."
    ),
    "bots:\n- slug: demo\n  name: null": (
        "3: bots/demo: name: A text is expected: quote it, if it looks like a number or a date."
    ),
    "bots:\n- slug: demo\n  reply_mode: fast": "3: bots/demo: reply_mode: fast is none of: stream, text.",
    "bots:\n- slug: demo\n  reply_mode: {env: A_SECRET}": (
        "3: bots/demo: reply_mode: A text is expected: quote it, if it looks like a number or a date."
    ),
    "bots:\n- slug: demo\n  allowed_users: ou_1": (
        "3: bots/demo: allowed_users: A list of texts is expected, like [a, b]; quote what looks like a number."
    ),
    "bots:\n- slug: demo\n  model: gpt": ("3: bots/demo: model: There is no gpt among the models. Known are: echo."),
    "bots:\n- slug: demo\n  model: {name: echo}": "3: bots/demo: model: Write the name of one of the models.",
    "bots:\n- slug: demo\n  access: listed": (
        "3: bots/demo: access: Nobody is listed, so nobody could talk to the bot. List somebody below."
    ),
    "bots:\n- {slug: new, name: New}": "2: bots/new: model: This field is required.",
    "models:\n- {name: m, engine: openai, model: x}": (
        "2: models/m: base_url: Say where the service is, for example https://llm.example.com/v1."
    ),
    "models:\n- name: echo\n  api_key: sk-1": (
        "3: models/echo: api_key: A secret does not stand in the file: write {env: NAME} or {file: PATH}. "
        "To allow it: --allow-literal-secrets."
    ),
    "models:\n- name: echo\n  api_key: {env: NOT_SET}": (
        "3: models/echo: api_key: The environment variable NOT_SET is not set."
    ),
    "models:\n- name: echo\n  api_key: {file: gone}": (
        "3: models/echo: api_key: The file {folder}/gone cannot be read: No such file or directory."
    ),
    "models:\n- name: echo\n  api_key: {vault: a}": (
        "3: models/echo: api_key: Only {env: NAME} or {file: PATH} can stand here."
    ),
    "models:\n- name: echo\n  api_key: ''": (
        "3: models/echo: api_key: A secret does not stand in the file: write {env: NAME} or {file: PATH}. "
        "To allow it: --allow-literal-secrets."
    ),
    f"credentials:\n- {FEISHU}": (
        "2: credentials/App: encrypt_key: Set an Encrypt Key in Feishu's console: without one callbacks are not "
        "signed. To accept that risk, tick “allow unsigned callbacks”."
    ),
    "credentials:\n- name: Old\n  platform: dingtalk": (
        "3: credentials/Old: platform: An app stays on its platform. Make another credential."
    ),
    "alert_rules:\n- name: disk": "2: alert_rules/disk: There is none of this name, and none can be made. Known are: ",
    "alert_rules:\n- name: model.down\n  threshold: 3": (
        "3: alert_rules/model.down: threshold: This cannot be set here."
    ),
    "users:\n- {username: eve, groups: [operator, auditor]}": (
        "2: users/eve: groups: One account cannot hold auditor, operator together: whoever acts must not be the one "
        "who checks."
    ),
    "word_lists:\n- {name: w, text: '/(/'}": "2: word_lists/w: text: Line 1: ",
}


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "some-secret")
    factories.bot(slug="demo", model=factories.model(name="echo"))
    factories.credential(name="Old")


@pytest.mark.parametrize("text", MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_is_named_with_its_line_and_what_to_write_instead(stored, tmp_path, text):
    file = tmp_path / "c.yaml"
    file.write_text(text, "utf-8")

    with pytest.raises(CommandError) as refused:
        call_command("configure", str(file))

    expected = MISTAKES[text].replace("{file}", str(file)).replace("{folder}", str(tmp_path))
    assert str(refused.value)[: len(f"{file}:{expected}")] == f"{file}:{expected}"
    assert str(refused.value).splitlines()[-1] == "Nothing was changed."


def test_all_mistakes_are_told_at_once_what_follows_from_one_only_once_and_nothing_is_changed(stored, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(
        "models:\n- {name: good, engine: echo}\n- {name: bad, engine: magic}\n"
        "bots:\n- {slug: uses-bad, name: A, model: bad}\n- {slug: demo, top_p: 7}\n",
        "utf-8",
    )

    with pytest.raises(CommandError) as refused:
        call_command("configure", str(file))

    assert str(refused.value).splitlines() == [
        f"{file}:3: models/bad: engine: magic is none of: transformers, openai, echo.",
        f"{file}:6: bots/demo: top_p: Ensure this value is less than or equal to 1.0.",
        "Nothing was changed.",
    ]
    assert [model.name for model in LanguageModel.objects.all()] == ["echo"]
    assert Bot.objects.count() == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Name the files, or say --export."),
        (["gone.yaml"], "gone.yaml: No such file or directory"),
    ],
)
def test_files_that_are_not_there(words, said):
    with pytest.raises(CommandError) as refused:
        call_command("configure", *words)

    assert str(refused.value) == said


def test_a_file_in_another_encoding(tmp_path: Path):
    (tmp_path / "c.yaml").write_bytes("bots: [{slug: 演示}]".encode("gb18030"))

    with pytest.raises(CommandError) as refused:
        call_command("configure", str(tmp_path / "c.yaml"))

    assert str(refused.value) == f"{tmp_path}/c.yaml is no text in UTF-8."


def test_two_things_of_one_name_cannot_be_told_apart(tmp_path: Path):
    for _ in range(2):
        factories.credential(name="Test")
    (tmp_path / "c.yaml").write_text("credentials:\n- name: Test\n  corp_id: c1\n", "utf-8")

    with pytest.raises(CommandError) as exported:
        call_command("configure", export=True)
    with pytest.raises(CommandError) as applied:
        call_command("configure", str(tmp_path / "c.yaml"))

    text = "Several credentials are called Test. Rename or delete all but one in the admin first."
    assert str(exported.value) == f"{text}\nNothing was changed."
    text = "2 of them are stored under this name. Rename or delete one in the admin first."
    assert str(applied.value) == f"{tmp_path}/c.yaml:2: credentials/Test: {text}\nNothing was changed."
