#!/bin/sh
# Looks up every installed package in the list of known holes (pip-audit). Ends with 1 when one has a hole, and also
# when one could not be looked up (--strict): not audited is not clean.
#   deploy/scan.sh [REQUIREMENTS]      default: requirements/production.txt
set -eu
cd "$(dirname "$0")/.."
cache=${CACHE_DIRECTORY:-${TMPDIR:-/tmp}/clawdbot-scan}
if [ ! -x "$cache/venv/bin/pip-audit" ]; then
  .venv/bin/python -m venv "$cache/venv"
fi
"$cache/venv/bin/pip" install --quiet --disable-pip-version-check --no-input --upgrade pip-audit
exec "$cache/venv/bin/pip-audit" --cache-dir "$cache/advisories" --progress-spinner off --strict --require-hashes --disable-pip \
  --requirement "${1:-requirements/production.txt}"
