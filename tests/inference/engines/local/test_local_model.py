"""Which folders are loaded, and which are refused with which words."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.engines.local.model import ModelFolderError, load_model


def edited(name: str, **changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(settings | changes))

    return edit


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def written(name: str, content: bytes = b"x") -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def without_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def test_a_good_folder(loaded, tokenizer):
    assert loaded.model.dtype == torch.float32
    assert loaded.context_tokens == 2048
    assert not loaded.model.training
    assert loaded.end_ids == set(tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"]))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (removed("config.json"), "has no config.json; give the folder"),
        (removed("model.safetensors"), "has no *.safetensors file; download"),
        (written("pytorch_model.bin"), "holds pytorch_model.bin, which can run code; remove it"),
        (written("optimizer.pt"), "holds optimizer.pt, which can run code"),
        (written("extra.pkl"), "holds extra.pkl, which can run code"),
        (edited("config.json", auto_map={"AutoModelForCausalLM": "evil.Model"}), "asks for code of its own (auto_map)"),
        (edited("tokenizer_config.json", auto_map={"AutoTokenizer": "evil.T"}), "asks for code of its own (auto_map)"),
        (written("config.json", b"{"), "config.json is not a JSON object"),
        (edited("config.json", model_type="no-such-model"), "cannot be loaded; download the model again"),
        (edited("config.json", hidden_size=128), "cannot be loaded; download the model again"),
        (edited("config.json", vocab_size=100), "cannot be loaded; download the model again"),
        (written("model.safetensors", b"\x00" * 40), "cannot be loaded; download the model again"),
        (without_a_weight, "1 weights are missing, the first is model.layers.1.mlp.up_proj.weight"),
        (without_template, "has no chat template; use the instruct or chat version"),
        (removed("tokenizer.json"), ""),
    ],
)
def test_a_bad_folder_is_refused_in_one_sentence(model_folder, tmp_path, spoil, said):
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    spoil(folder)

    with pytest.raises(ModelFolderError) as refused:
        load_model(folder, device="cpu")

    assert said in str(refused.value)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ModelFolderError, match=r"has no config\.json"):
        load_model(tmp_path / "nowhere")


def test_custom_code_in_the_folder_never_runs(model_folder, tmp_path):
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    trace = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(trace)!r}, 'w')\n")
    edited("config.json", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"})(folder)

    with pytest.raises(ModelFolderError):
        load_model(folder, device="cpu")

    assert not trace.exists()


def test_tokens_that_the_model_does_not_know_are_refused(model_folder, tmp_path, tokenizer):
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    longer = tokenizer.from_pretrained(folder)
    longer.add_tokens(["<one too many>"])
    longer.save_pretrained(folder)

    with pytest.raises(ModelFolderError, match="more tokens than its model knows"):
        load_model(folder, device="cpu")


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_models_that_are_loaded_at_the_same_time_are_whole(model_folder):
    """A worker loads what bots use when it starts, and what a question wants meanwhile."""

    def load(_number: int) -> bool:
        model = load_model(model_folder, device="cpu").model
        return model.lm_head.weight is model.model.embed_tokens.weight

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(load, range(12))) == [True] * 12


@pytest.mark.parametrize(
    "module", ["inference.engines.local.engine", "inference.engines.openai", "inference.engines.echo"]
)
def test_engines_run_without_django_and_remote_ones_without_torch(module):
    heavy = "'torch', 'transformers', " if "local" not in module else ""
    code = f"import sys, {module}; sys.exit(str([m for m in ({heavy}'django',) if m in sys.modules] or ''))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr.strip() in ("", "[]")
