#!/bin/sh
# The weekly scan of packages and code (rule S2). It fails closed: a tool that is missing, that found something, or that
# could not ask its list of known holes makes the whole scan fail. Not looked at is not clean.
#
#   deploy/scan.sh              pip-audit over all locks and torch, bandit, our own semgrep rules, detect-secrets
#   deploy/scan.sh sbom FOLDER  writes the lists of packages (CycloneDX JSON) instead
#
# The tools have a virtual environment of their own, with hashed pins (requirements/scan.txt), in $CACHE_DIRECTORY or
# var/scan. pip-audit asks pypi.org, or what PIP_AUDIT_VULNERABILITY_SERVICE and PIP_AUDIT_OSV_URL name. How it ended is
# written to $CACHE_DIRECTORY/result: doctor and the alert `packages.scan` read it.
set -u
cd "$(dirname "$0")/.." || exit 1
cache=${CACHE_DIRECTORY:-$PWD/var/scan}
tools=$cache/venv/bin
failed=""
export PYTHONWARNINGS=ignore PATH="$tools:$PATH" SEMGREP_SEND_METRICS=off SEMGREP_ENABLE_VERSION_CHECK=0
export SEMGREP_SETTINGS_FILE="$cache/semgrep.yml" SEMGREP_LOG_FILE="$cache/semgrep.log" XDG_CACHE_HOME="$cache"

# check NAME WHAT-TO-DO COMMAND…
check() {
  name=$1 todo=$2
  shift 2
  echo "-- $name --"
  "$@" && return
  echo "scan: $name ended with $?. $todo" >&2
  failed="$failed $name"
}

tell() { # tell VERDICT…: whole or not at all, for who reads it meanwhile
  echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $*" >"$cache/result.new" && mv "$cache/result.new" "$cache/result"
}

make_tools() {
  wanted=$(sha256sum requirements/scan.txt) || return
  [ "$wanted" != "$(cat "$cache/venv/installed" 2>/dev/null)" ] || return 0
  rm -rf "$cache/venv"
  .venv/bin/python -m venv "$cache/venv" &&
    "$tools/pip" install --quiet --disable-pip-version-check --no-input --require-hashes --requirement requirements/scan.txt &&
    echo "$wanted" >"$cache/venv/installed"
}

# -- what is looked at --

audit() { "$tools/pip-audit" --cache-dir "$cache/advisories" --progress-spinner off --strict --disable-pip "$@"; }

# Each by itself: two locks may hold two versions of a package, as the scan's own tools never meet the product's.
audit_locks() {
  worst=0
  for lock in base production gpu traces development scan; do
    audit --require-hashes --requirement "requirements/$lock.txt" || worst=$?
  done
  return $worst
}

# Stands in no lock, as its wheels differ by index.
audit_torch() {
  sed -n 's/^TORCH=//p' deploy/install.sh >"$cache/torch.txt" && [ -s "$cache/torch.txt" ] &&
    audit --no-deps --requirement "$cache/torch.txt"
}

CODE="bots clawdbot_site inference integrations monitoring scripts manage.py"

judge_code() {
  # shellcheck disable=SC2086  # words
  "$tools/bandit" --quiet --recursive --configfile pyproject.toml $CODE 2>"$cache/bandit.log"
  code=$?
  grep -v "nosec encountered" "$cache/bandit.log" >&2 # told for every part of a line that has one
  return $code
}

judge_habits() {
  # shellcheck disable=SC2086  # words
  "$tools/semgrep" scan --quiet --error --strict --no-git-ignore --oss-only --config deploy/semgrep/house.yml $CODE
}

# The hook writes into its list where only lines moved (3), so it gets a copy.
find_secrets() {
  cp .secrets.baseline "$cache/secrets.json" || return
  # shellcheck disable=SC2046  # names of files of ours, without blanks
  "$tools/detect-secrets-hook" --baseline "$cache/secrets.json" $(files)
  code=$?
  [ $code -eq 0 ] || [ $code -eq 3 ]
}

# Made-up secrets are what tests are made of; locks and measurements are full of digests.
files() {
  if git rev-parse >/dev/null 2>&1; then git ls-files; else find . -type f | sed 's|^\./||'; fi |
    grep -Ev '^(tests|bench|\.venv|\.git|var)/|^requirements/.*\.txt$|^docs/benchmarks/|^\.secrets\.baseline$|/locale/'
}

# -- lists of packages --

write_sbom() {
  mkdir -p "$1" || return
  for name in production gpu; do
    { cat "requirements/$name.txt" && { [ "$name" != gpu ] || sed -n 's/^TORCH=//p' deploy/install.sh; }; } |
      "$tools/cyclonedx-py" requirements --pyproject pyproject.toml --mc-type application --output-reproducible \
        --output-format JSON --output-file "$1/clawdbot-$name.cdx.json" - || return
  done
  echo "$1/clawdbot-production.cdx.json $1/clawdbot-gpu.cdx.json"
}

mkdir -p "$cache" || exit 1
again="Then run it again: deploy/scan.sh"
if [ "${1:-}" = sbom ]; then
  check tools "Check the network or PIP_INDEX_URL. $again" make_tools
  [ -n "$failed" ] || check sbom "See above." write_sbom "${2:-var/sbom}"
  [ -z "$failed" ]
  exit
fi
[ $# -eq 0 ] || { echo "scan: unknown word $1 (there is only: sbom FOLDER)" >&2; exit 1; }

tell failed unfinished
check tools "The scan's own programs could not be installed: check the network or PIP_INDEX_URL. $again" make_tools
check pip-audit "A package has a known hole: upgrade to a version without it. Or the list of known holes could not be
  asked: check the network, HTTPS_PROXY or PIP_AUDIT_OSV_URL. $again" audit_locks
check pip-audit-torch "As for pip-audit; the version stands in scripts/install.py and deploy/install.sh. $again" audit_torch
check bandit "Mend what it names, or say in the line why it is harmless (# nosec BXXX  reason). $again" judge_code
check semgrep "A rule of deploy/semgrep/house.yml is broken: mend the line, or say in it why not (# nosemgrep: id). $again" judge_habits
check detect-secrets "Take the secret out and replace it where it is used; if it is none, add it to .secrets.baseline
  (docs/security.md, Scan). $again" find_secrets
if [ -n "$failed" ]; then
  tell "failed$failed"
  echo "scan: FAILED:$failed" >&2
  exit 1
fi
tell clean || exit 1
echo "scan: clean"
