"""What goes wrong with a model, as the message tells it: a reason inside, a polite word outside, others unharmed.

The engines' own tests go through bad token ids, ids in flight, crashes and lack of memory (``engines/``).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bots.models import Bot, Message
from bots.sentences import say
from inference import worker
from inference.models import LanguageModel
from tests import factories
from tests.bots.conftest import work_off
from tests.inference.engines.local import seeing
from tests.servers.model_service import Script

pytestmark = pytest.mark.django_db
CALL = {"tool_calls": [{"index": 0, "function": {"name": "x", "arguments": "{}"}}]}
HALF = b'data: {"choices": [{"delta": {"content": "Half"}}]}\n\n'


@pytest.fixture(autouse=True)
def no_engines_left() -> Iterator[None]:
    yield
    worker.close_all()


def asked(bot: Bot, text: str = "hello", **values: Any) -> tuple[Message, Message]:
    question = factories.web_question(bot, text, **values)
    work_off(question)
    question.refresh_from_db()
    return question, question.replies.get()


@pytest.mark.parametrize(
    ("script", "reason", "begun", "apology"),
    [
        (Script(wait_s=9), "no text in time", "", "model_failed"),
        (Script(["Half", "more"], stall_after=1), "no text in time", "Half", "model_failed"),
        (Script(["Half", "more"], cut_after=1), "cut off", "Half", "model_failed"),
        (Script(raw=HALF + b"data: {broken\n\n"), "not JSON", "Half", "model_failed"),
        (Script(["Half", CALL, "more"], cut_after=2), "cut off", "Half", "model_failed"),
        (Script(status=400, body="maximum context length is 8192 tokens"), "maximum context", "", "bad_question"),
        (Script(status=401, body="wrong key"), "API key", "", "model_failed"),
        (Script([" "]), "no text", "", "model_failed"),
    ],
    ids=["late", "stalls", "cut", "broken JSON", "cut after a call", "too long", "wrong key", "no text"],
)  # fmt: skip
def test_a_service_that_fails(remote_model, model_service, script, reason, begun, apology):
    model = remote_model(first_token_timeout_s=1, between_tokens_timeout_s=1)
    bot = factories.bot(model=model)
    model_service.script(script, Script(["Well."]))

    question, reply = asked(bot)
    _other, unharmed = asked(bot, scope_key="another")

    assert (question.status, reason in question.error) == ("failed", True), question.error
    assert reply.text == f"{begun}\n\n{say(apology)}".strip()
    assert unharmed.text == "Well."


@pytest.mark.parametrize("counted", [-5, "many", 10**12, None])
def test_a_service_that_counts_wrong_is_counted_by_us(remote_model, model_service, counted):
    model_service.script(Script(["Well."], usage={"prompt_tokens": counted, "completion_tokens": 3}))

    question, reply = asked(factories.bot(model=remote_model()))

    assert (question.status, reply.text) == ("delivered", "Well.")
    assert 0 < reply.prompt_tokens < 100


FOLDERS = {
    "pickled weights": ("pytorch_model.bin", b"\x80\x04", "pytorch_model.bin"),
    "code": ("modeling_own.py", b"print()", "modeling_own.py"),
    "wants remote code": ("config.json", json.dumps({"auto_map": {"AutoModel": "x.Y"}}).encode(), "auto_map"),
    "broken settings": ("config.json", b"{", "config.json"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_is_not_safe_or_not_whole(tmp_path: Path, name):
    file, content, reason = FOLDERS[name]
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}))
    (tmp_path / "model.safetensors").touch()
    (tmp_path / file).write_bytes(content)
    local = factories.model(name="local", engine=LanguageModel.Engine.TRANSFORMERS, path=str(tmp_path))

    question, reply = asked(factories.bot(model=local))
    _other, unharmed = asked(factories.bot())

    assert (question.status, reason in question.error) == ("failed", True), question.error
    assert reply.text == say("model_failed")
    assert unharmed.text == "echo: hello"


def test_what_a_local_model_cannot_answer_harms_nobody_beside_it(tmp_path: Path):
    """One engine for all of it: the same question has the same answer before, between and after."""
    path = str(seeing.make_folder(tmp_path))
    local = factories.model(engine=LanguageModel.Engine.TRANSFORMERS, path=path, vision=True, max_context_tokens=256)
    bot = factories.bot(model=local, temperature=0.0, max_tokens=8)
    wordy = factories.bot(slug="wordy", model=local, system_prompt="fox " * 2000, max_tokens=8)
    broken = {"role": "user", "text": "?", "images": [base64.b64encode(b"\x89PNG\r\n\x1a\n broken").decode()]}
    _question, first = asked(bot, scope_key="well")
    assert first.text

    for number, (where, words, wanted, reason) in enumerate([
        (bot, "look", {"messages": [broken]}, "picture"),
        (bot, " ", {"messages": [{"role": "user", "text": " "}]}, "nothing that a person said"),
        (bot, "hot", {"temperature": -3.0}, "temperature"),
        (bot, "narrow", {"top_p": 0.0}, "top_p"),
        (bot, "fox " * 3000, {}, ""),  # its middle is left out
        (wordy, "hello", {}, ""),
    ]):  # fmt: skip
        question, reply = asked(where, words, scope_key=f"bad {number}", details={"request": wanted})
        is_refused = (question.status, reply.text) == ("failed", say("bad_question"))
        assert is_refused == bool(reason), (words[:10], question.error)
        assert reason in question.error
        _question, again = asked(bot, scope_key=f"well {number}")
        assert again.text == first.text
