"""Somebody who signs in, and a ring of signing keys that is read anew."""

from __future__ import annotations

import pytest

from clawdbot_site.security import signing_keys
from clawdbot_site.security.models import User


@pytest.fixture(autouse=True)
def fresh_ring():
    signing_keys.ring.forget()
    yield
    signing_keys.ring.forget()


@pytest.fixture
def user():
    return User.objects.create_user("ada", password="correct horse")
