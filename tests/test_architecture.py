"""The shape of the house, checked: imports point one way, migrations are complete, views name who may."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.views import APIView

ROOT = Path(__file__).resolve().parents[1]
TOP_LEVEL = {"bots", "clawdbot_site", "inference", "integrations", "monitoring", "requirements", "tests"}
# Signing in, public keys, the schema (no data of the site), and the inbound hook, whose key is its authentication.
OPEN_TO_ALL = {"TokenView", "RefreshView", "RevokeView", "JwksView", "InboundHook"} | {
    "SpectacularAPIView",
    "SpectacularSwaggerSplitView",
}


def test_imports_point_one_way():
    lint_imports = Path(sys.executable).with_name("lint-imports")

    done = subprocess.run([str(lint_imports)], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


@pytest.mark.django_db
def test_no_migration_is_missing():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_the_top_level_is_the_one_that_was_agreed():
    assert {path.name for path in ROOT.iterdir()} >= TOP_LEVEL | {"manage.py", "README.md", "LICENSE"}


def test_a_site_with_remote_models_only_never_imports_torch():
    code = (
        "import django, sys; django.setup(); import clawdbot_site.asgi, clawdbot_site.urls, bots.tasks, bots.embedded;"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    env = {"DJANGO_SETTINGS_MODULE": "clawdbot_site.settings.test", "PATH": ""}

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_every_rest_view_names_the_scopes_it_needs():
    views = [view for view in _views(get_resolver("clawdbot_site.urls")) if issubclass(view, APIView)]
    undeclared = {view.__name__ for view in views if not hasattr(view, "required_scopes")}

    assert len(views) > 15
    assert undeclared == OPEN_TO_ALL


def _views(resolver: URLResolver) -> list[type]:
    found = []
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            found += _views(pattern)
        elif isinstance(pattern, URLPattern):
            found.append(getattr(pattern.callback, "cls", None) or getattr(pattern.callback, "view_class", None))
    return [view for view in found if view is not None]
