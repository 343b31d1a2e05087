"""Which files of a model folder may be loaded, and whether they are still those that were looked at (rule S3).

Only safetensors and plain settings; nothing that can run code, neither as a file nor by a setting that makes the loader
fetch or import something. Knows no torch: it is asked before anything is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from inference.errors import InferenceError

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".keras", ".dill"}
CODE = {".py", ".pyc", ".pyo", ".pyd", ".so", ".dll", ".dylib", ".exe", ".sh", ".bat", ".ps1", ".js", ".jar", ".whl"}
ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".egg"}
READ_BY_LOADERS = {".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken"}
INDEX, ADAPTER = "model.safetensors.index.json", "adapter_config.json"

# A setting of these names, anywhere in a config, makes a loader import or fetch code.
_RUNS_CODE = {"auto_map", "custom_pipelines", "trust_remote_code", "code_revision", "custom_generate"}
# A setting that names something to load, by the look of its name; what follows is known to be harmless.
_LOADS = re.compile(r"(^|_)(module|plugin|pipelines?|remote|url|repo|revision|hook|callback|import|script|exec)(_|$)")
_ATTENTIONS = {"eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "paged_attention"}
_EXPERTS = {"eager", "batched_mm", "grouped_mm"}
_UNSAFE_TEMPLATE = re.compile(
    r"""(\.|\[\s*['"])\s*__\w+|\|\s*attr\b|\{%[-+]?\s*(include|import|from|extends)\b""", re.ASCII
)
_MOST_SETTINGS_BYTES = 4 << 20
_MOST_TEMPLATE_BYTES = 1 << 20
_HASH_THREADS = 4


class UnsafeFolder(InferenceError):
    """Nothing of the folder is loaded. One sentence: which file, what is wrong, how to mend it."""


def check(folder: Path) -> None:
    """Raises UnsafeFolder for a folder that holds no model, or anything that could run code."""
    if not (folder / "config.json").is_file():
        raise UnsafeFolder(f"{folder} has no config.json; give the folder that the model was downloaded to")
    for path in _files(folder):
        _check_file(path)
    if not list(folder.glob("*.safetensors")):
        raise UnsafeFolder(f"{folder} has no *.safetensors file; download the model in the safetensors format")


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file that loaders read, by its name below the folder. Reads them all: seconds a gigabyte."""
    paths = sorted(path for path in _files(folder) if path.suffix in READ_BY_LOADERS)
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        return {
            path.relative_to(folder).as_posix(): digest
            for path, digest in zip(paths, pool.map(_digest, paths), strict=True)
        }


def verify(folder: Path, pinned: Mapping[str, str]) -> None:
    """Raises UnsafeFolder unless the files are exactly those that were pinned."""
    found = digests(folder)
    changed = sorted(name for name in found.keys() | pinned.keys() if found.get(name) != pinned.get(name))
    if changed:
        what = "is new" if changed[0] not in pinned else "is missing" if changed[0] not in found else "has changed"
        raise UnsafeFolder(
            f"{folder / changed[0]} {what} since this model was first loaded; if that is meant, accept the files "
            "as they are now on the model's page"
        )


def _files(folder: Path) -> Iterator[Path]:
    """All but hidden ones, which no loader reads (.git, .cache)."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnsafeFolder(f"{path} cannot be read: {error.strerror}") from None


def _check_file(path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix in PICKLES:
        raise UnsafeFolder(f"{path} can run code when it is loaded; remove it and use safetensors files")
    if suffix in CODE:
        raise UnsafeFolder(
            f"{path} is code; models are loaded without code of their own: remove it, or use another model"
        )
    if suffix in ARCHIVES:
        raise UnsafeFolder(f"{path} is an archive, into which nobody has looked; remove it")
    if path.name == ADAPTER:
        raise UnsafeFolder(f"{path} makes this an adapter to another model; merge it into its model and use that")
    if suffix == ".jinja":
        _check_template(path, _read(path, _MOST_TEMPLATE_BYTES))
    if path.name == INDEX:
        _check_index(path, _settings(path))
    elif suffix == ".json" and ("config" in path.name or path.stem == "chat_template"):
        _check_settings(path, _settings(path))


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        if key in _RUNS_CODE and value:
            raise UnsafeFolder(f"{path} asks for code of its own ({key}); use a model without it")
        if key.endswith("implementation"):
            _check_implementation(path, key, value)
        elif _LOADS.search(key) and _names_something(value):
            raise UnsafeFolder(f"{path} has the setting {key}, which this version does not know; remove it")
        if "chat_template" in key:
            _check_template(path, json.dumps(value, ensure_ascii=False).replace('\\"', '"'))
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                _check_settings(path, inner)


def _check_implementation(path: Path, key: str, value: Any) -> None:
    """Other names than these are looked for on a hub, and are code."""
    for name in value.values() if isinstance(value, dict) else [value]:
        if name is not None and name not in _ATTENTIONS | _EXPERTS:
            raise UnsafeFolder(f"{path} asks for {key}={name!r}, which would be fetched as code; remove that setting")


def _names_something(value: Any) -> bool:
    return isinstance(value, str | dict) or (isinstance(value, list) and any(isinstance(one, str) for one in value))


def _check_template(path: Path, text: str) -> None:
    if found := _UNSAFE_TEMPLATE.search(text):
        raise UnsafeFolder(f"{path} reaches out of its template ({found.group().strip()}); use another model")


def _check_index(path: Path, index: Mapping[str, Any]) -> None:
    names = index.get("weight_map")
    for name in set(names.values()) if isinstance(names, dict) else {None}:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise UnsafeFolder(f"{path} names weights outside of its folder ({name!r}); download the model again")


def _settings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_read(path, _MOST_SETTINGS_BYTES if path.name != INDEX else 64 << 20))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnsafeFolder(f"{path} is not a JSON object; download the model again")
    return found


def _read(path: Path, most_bytes: int) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise UnsafeFolder(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > most_bytes:
        raise UnsafeFolder(f"{path} is larger than {most_bytes >> 20} MiB, which no settings file is")
    return data.decode("utf-8", "replace")
