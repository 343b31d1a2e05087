"""``manage.py simulate`` where it cannot work; how it does is seen in e2e."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import CommandError, call_command

from bots.models import Endpoint
from tests import factories
from tests.servers.site import free_port


@pytest.mark.django_db
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::1"])
def test_a_site_that_does_not_answer_is_told_whatever_it_listens_on(settings: Any, host: str) -> None:
    settings.HOST, settings.PORT = host, free_port()
    factories.bot(slug="demo")

    with pytest.raises(CommandError, match=f"^No site answers on port {settings.PORT}. Start it first: make run$"):
        call_command("simulate", "feishu", "--text", "Hello", "--yes-in-production")

    assert not Endpoint.objects.exists()
