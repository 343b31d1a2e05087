"""Lets pytest-django empty the database between transactional tests although the audit log refuses DELETE and TRUNCATE.

Only the flush may: the triggers are lifted around it and stand again before the next test. The fixture
``audit_survives_flush`` in tests/conftest.py switches it on, once for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from django.db.backends.base.operations import BaseDatabaseOperations

from monitoring import triggers


def allow_flush(patch: pytest.MonkeyPatch) -> None:
    """Lift the triggers of the audit log (and of nothing else) while Django runs the statements of a flush."""
    execute = BaseDatabaseOperations.execute_sql_flush

    def with_lifted_triggers(self: Any, statements: Sequence[str]) -> None:
        if not any(table in statement for table in triggers.TABLES for statement in statements):
            return execute(self, statements)
        with triggers.lifted(self.connection):
            return execute(self, statements)

    patch.setattr(BaseDatabaseOperations, "execute_sql_flush", with_lifted_triggers)
