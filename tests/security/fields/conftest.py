"""Tables of two models with secrets, and a row of them."""

from __future__ import annotations

import pytest
from django.db import connection

from clawdbot_site.security.models import SigningKey

from .keepsakes import CANARY, Keepsake, Locket


@pytest.fixture(scope="module", autouse=True)
def tables(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        with connection.schema_editor() as editor:
            editor.create_model(Keepsake)
            editor.create_model(Locket)
        yield
        with connection.schema_editor() as editor:
            editor.delete_model(Locket)
            editor.delete_model(Keepsake)


@pytest.fixture
def keepsake(db):
    return Keepsake.objects.get(pk=Keepsake.objects.create(secret=CANARY, second="two").pk)


@pytest.fixture
def signing_key(db):
    """For what needs a model of an installed app: copies and fixtures."""
    return SigningKey.objects.create(kid="k", private_pem=CANARY, public_jwk={}, state="retired")
