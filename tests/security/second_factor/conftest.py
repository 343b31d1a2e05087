"""An account that must have a second factor, and nothing that was counted before."""

from __future__ import annotations

import pytest
from django.core.cache import cache

from clawdbot_site.security.models import User

from .signing_in import PASSWORD


@pytest.fixture(autouse=True)
def fresh_counts():
    cache.clear()


@pytest.fixture
def staff(db, settings) -> User:
    settings.MFA_REQUIRED_ROLES = ["staff"]
    return User.objects.create_superuser("ann", password=PASSWORD)
