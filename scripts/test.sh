#!/usr/bin/env bash
# The tests of `make test`, inside the private servers of scripts/servers.py: everything on SQLite; then whole sites as
# processes; then a browser (apart: Playwright keeps an event loop running); then what stands or falls with the database
# once more on PostgreSQL.
set -eu
export CLAWDBOT_DATA_DIR="${CLAWDBOT_DATA_DIR:-.pytest_cache/var}"
no_database=(--ignore tests/bots/documents --ignore tests/bots/test_up.py)
no_database+=(--ignore tests/security/test_ip_rules.py --ignore tests/security/outbound)
no_database+=(--ignore tests/security/test_following_rules.py)  # brings an SQLite file of its own
no_database+=(--ignore tests/security/test_port.py --ignore tests/security/test_key_providers.py --ignore tests/bots/test_links.py)
no_database+=(--ignore tests/bots/test_live.py --ignore tests/bots/test_webhooks_lost_redis.py)
no_database+=(--ignore tests/bots/api/test_following_lost_redis.py --ignore tests/monitoring/test_traces.py)
no_database+=(--ignore tests/security/test_doors.py --ignore tests/security/test_constant_time.py)
no_database+=(--ignore tests/bots/words --ignore tests/bots/test_material.py --ignore tests/bots/admin/test_pages.py)
pytest() { .venv/bin/python -m pytest -q -m "not long" "$@"; }
echo "-- on SQLite --"
pytest -n 2 --dist loadfile --ignore tests/browser --ignore tests/bots/e2e --ignore tests/chaos/test_chaos.py
echo "-- whole sites --"
pytest -n 2 --dist loadfile tests/bots/e2e tests/chaos/test_chaos.py
echo "-- a browser --"
pytest -n 2 --dist loadfile tests/browser
if [ -n "${TEST_POSTGRES_URL:-}" ]; then
  echo "-- once more on PostgreSQL --"
  # The product's threads keep their connections: they are still open when a test, or the test database, ends. To drop
  # that one would wait for them in vain; the server goes with all it holds.
  DATABASE_URL="$TEST_POSTGRES_URL" pytest -n 2 --dist loadfile --reuse-db -W ignore::ResourceWarning \
    -W ignore::pytest.PytestUnraisableExceptionWarning \
    tests/bots tests/monitoring tests/security --ignore tests/bots/e2e "${no_database[@]}"
fi
