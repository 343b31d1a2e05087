#!/usr/bin/env bash
# The tests of `make test`, inside the private servers of scripts/servers.py: everything on SQLite, then what stands or
# falls with the database once more on PostgreSQL.
set -u
export CLAWDBOT_DATA_DIR="${CLAWDBOT_DATA_DIR:-.pytest_cache/var}"
python=.venv/bin/python
"$python" -m pytest -n 2 --dist loadfile -m "not long" "$@" || exit 1
if [ -n "${TEST_POSTGRES_URL:-}" ]; then
  echo "-- once more on PostgreSQL --"
  DATABASE_URL="$TEST_POSTGRES_URL" "$python" -m pytest -q -m "not long" \
    tests/bots tests/monitoring tests/security --ignore tests/bots/e2e || exit 1
fi
