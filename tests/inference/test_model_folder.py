"""Rule S3: what is never loaded, what is pinned, and the sentences that say why."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from inference import model_folder, worker
from inference.loading import DEMO_PATH
from inference.model_folder import UnsafeFolder
from inference.models import LanguageModel
from monitoring.models import AuditLog
from tests import factories

pytestmark = pytest.mark.rule("S3")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Looks like a model to whoever does not load it."""
    (tmp_path / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}')
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "README.md").write_text("about")
    return tmp_path


def configured(folder: Path, name: str = "config.json", **settings: Any) -> Path:
    (folder / name).write_text(json.dumps(settings))
    return folder


def test_a_plain_folder_passes(folder):
    configured(
        folder,
        _attn_implementation="sdpa",
        vision_config={"kernel_size": [2, 2], "conv_kernel": 4},
        special_tokens_map_file="/elsewhere/x.json",
        auto_map={},
        quantization_config={"modules_to_not_convert": ["lm_head"]},
    )
    (folder / ".cache").mkdir()
    (folder / ".cache" / "download.bin").touch()

    model_folder.check(folder)
    model_folder.check(DEMO_PATH)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pytorch_model.bin", "can run code when it is loaded"),
        ("sub/weights.PT", "can run code when it is loaded"),
        ("data.pickle", "can run code when it is loaded"),
        ("modeling_evil.py", "is code"),
        ("custom_generate/generate.py", "is code"),
        ("kernel.so", "is code"),
        ("weights.zip", "is an archive"),
        ("adapter_config.json", "adapter to another model"),
    ],
)
def test_files_that_could_run_code_are_refused_by_name(folder, name, said):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(pickle.dumps({"a": 1}))

    with pytest.raises(UnsafeFolder, match=f"{Path(name).name} .*{said}"):
        model_folder.check(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
@pytest.mark.parametrize(
    "settings",
    [
        {"auto_map": {"AutoModel": "modeling_evil.Evil"}},
        {"trust_remote_code": True},
        {"text_config": {"auto_map": {"AutoConfig": "x.Y"}}},
        {"_attn_implementation": "someone/evil-kernel"},
        {"attn_implementation": {"text_config": "sdpa", "vision_config": "someone/kernel:1"}},
        {"custom_pipelines": {"evil": {}}},
        {"code_revision": "main"},
        {"loader_module": "os"},
        {"weights_url": "https://evil.example"},
        {"parts": [{"plugin": "evil"}]},
    ],
)
def test_settings_that_load_something_unknown_are_refused(folder, name, settings):
    with pytest.raises(UnsafeFolder):
        model_folder.check(configured(folder, name, **settings))


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__ }}",
        "{{ messages['__class__'] }}",
        "{{ ''|attr('mro') }}",
        "{% include '/etc/passwd' %}",
        "{%- import 'x' as y %}",
    ],
)
def test_templates_that_reach_out_are_refused_in_every_place(folder, template):
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(UnsafeFolder, match="reaches out of its template"):
        model_folder.check(folder)
    (folder / "chat_template.jinja").unlink()

    with pytest.raises(UnsafeFolder, match="reaches out of its template"):
        model_folder.check(configured(folder, "tokenizer_config.json", chat_template=template))


@pytest.mark.parametrize("weight", ["../other/model.safetensors", "/etc/passwd", "pytorch_model.bin", 7])
def test_an_index_names_weights_of_its_folder_only(folder, weight):
    with pytest.raises(UnsafeFolder, match="names weights outside"):
        model_folder.check(configured(folder, model_folder.INDEX, weight_map={"lm_head": weight}))


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000])
def test_broken_settings_are_told(folder, text):
    (folder / "config.json").write_text(text)

    with pytest.raises(UnsafeFolder, match="is not a JSON object; download the model again"):
        model_folder.check(folder)


def test_an_empty_or_missing_folder_is_told(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UnsafeFolder, match=r"has no config\.json; give the folder"):
            model_folder.check(place)


def change(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"other weights")


def add(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages }}")


def remove(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("alter", "said"),
    [(change, r"model\.safetensors has changed"), (add, r"chat_template\.jinja is new"), (remove, "is missing")],
)
def test_files_are_those_of_the_first_load_or_nothing_is_loaded(folder, alter, said):
    pinned = model_folder.digests(folder)
    (folder / "README.md").write_text("no loader reads this")
    model_folder.verify(folder, pinned)
    alter(folder)

    with pytest.raises(UnsafeFolder, match=said):
        model_folder.verify(folder, pinned)


@pytest.mark.django_db
def test_the_first_load_pins_the_files_and_later_ones_compare(model_folder_of_tiny):
    model = factories.model(engine="transformers", path=str(model_folder_of_tiny))
    worker.engine_of(LanguageModel.objects.get(pk=model.pk))
    worker.close_all()
    model.refresh_from_db()
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(model.digests)
    assert AuditLog.objects.filter(action="languagemodel.files_pinned").count() == 1

    (model_folder_of_tiny / "generation_config.json").write_text('{"max_new_tokens": 5}')

    with pytest.raises(UnsafeFolder, match=r"generation_config\.json has changed since this model was first loaded"):
        worker.engine_of(model)
    model.forget_files()
    model.save()
    assert worker.engine_of(model).stats().running == 0
    worker.close_all()


@pytest.fixture
def model_folder_of_tiny(tmp_path: Path) -> Path:
    """A copy of the bundled model: real, and small."""
    import shutil

    return Path(shutil.copytree(DEMO_PATH, tmp_path / "model"))
