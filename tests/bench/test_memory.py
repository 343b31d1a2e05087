"""The small server, measured."""

from __future__ import annotations

import pytest

from bench import memory


@pytest.mark.long
def test_a_site_with_remote_models_fits_a_server_with_4_gb_and_never_loads_torch(postgres_url, redis_url):
    assert memory.main() == 0
