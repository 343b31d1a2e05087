"""The OpenAPI file, from which integrators make clients: valid, and no name in it stands for two things."""

from __future__ import annotations

from pathlib import Path

from django.core.management import call_command


def test_the_file_is_valid_and_made_without_a_warning(tmp_path: Path) -> None:
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(tmp_path / "schema.yml"))

    assert "openapi: 3" in (tmp_path / "schema.yml").read_text()
