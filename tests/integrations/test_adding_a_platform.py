"""docs/adding-a-platform.md is true: what it names is there, and nothing of the adapter's interface is left out."""

from __future__ import annotations

import re
from pathlib import Path

from integrations.base import Adapter, ReplyStream
from integrations.feishu.adapter import FeishuAdapter

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "adding-a-platform.md").read_text("utf-8")
FOLDERS = ("", "integrations/feishu/", "tests/integrations/feishu/", "clawdbot_site/settings/", "docs/")
NAMES = re.compile(r"`([\w./]+\.(?:py|md))`")
MADE_BY_YOU = {"docs/<platform>.md"}


def test_every_file_that_is_named_exists() -> None:
    named = set(NAMES.findall(PAGE)) - MADE_BY_YOU

    assert sorted(name for name in named if not any((ROOT / folder / name).exists() for folder in FOLDERS)) == []
    assert len(named) > 30


def test_every_module_of_feishu_that_others_would_copy_is_named() -> None:
    """Helpers of the named ones are not."""
    helpers = {"__init__", "fields", "frames", "legacy", "limits", "pace", "parts", "quoting"}
    modules = {path.stem for path in (ROOT / "integrations" / "feishu").glob("*.py")} - helpers

    assert sorted(name for name in modules if f"{name}.py" not in PAGE) == []


def test_every_method_of_the_interface_is_explained() -> None:
    methods = [name for cls in (Adapter, ReplyStream) for name in vars(cls) if not name.startswith("_")]
    told_elsewhere = {"platform", "interval_s", "shows_typing", "streaming_obstacle", "connect", "fetch_own_id"}

    assert sorted({name for name in methods if f"`{name}`" not in PAGE} - told_elsewhere) == []


def test_the_example_is_a_whole_platform() -> None:
    own = {name for name in vars(FeishuAdapter) if not name.startswith("_")}
    optional = {
        "receive",
        "proven",
        "acknowledge",
        "streaming_obstacle",
        "pins_company",
        "credential_faults",
    }  # not needed by Feishu

    assert sorted({name for name in vars(Adapter) if not name.startswith("_")} - own - optional) == []
