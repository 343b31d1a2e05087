#!/usr/bin/env bash
# Installs, upgrades or removes ClawdBot on a server: Debian, Ubuntu, RHEL and its relatives (CentOS Stream, Rocky, Alma,
# openEuler, Anolis, Kylin). Run it as root from a checkout; run it again to upgrade. A second run with nothing new changes
# nothing.
#
#   deploy/install.sh --host bots.example.com [--cert FILE --key FILE]
#   deploy/install.sh uninstall                 removes the program; leaves data, settings and logs
#
# Options:
#   --host NAME        the name people and platforms reach the site by (first run; default: this machine's name)
#   --cert, --key      its certificate (whole chain) and key; without: a self-signed one, to be replaced
#   --no-nginx         TLS ends somewhere else
#   --gpu              local models: torch (its CPU build without an NVIDIA driver), and a worker for the queue `inference`
#   --scan             a weekly scan of the installed packages for known holes
#
# Honoured: PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_TRUSTED_HOST, HTTPS_PROXY, HTTP_PROXY, NO_PROXY, TORCH_INDEX (remembered for
# upgrades in /etc/clawdbot/install.env); at the first run DATABASE_URL and REDIS_URL (servers elsewhere; else both are installed
# here), MODEL_ENDPOINT, MODEL_API_KEY and MODEL_NAME (the service that answers).
set -euo pipefail

HOME_DIR=/opt/clawdbot
DATA_DIR=/var/lib/clawdbot
CONFIG_DIR=/etc/clawdbot
ENV_FILE=$CONFIG_DIR/clawdbot.env
INSTALL_ENV=$CONFIG_DIR/install.env
UNIT_DIR=/etc/systemd/system
SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TORCH=torch==2.13.0
CPU_INDEX=https://download.pytorch.org/whl/cpu
REMEMBERED=(PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST HTTPS_PROXY HTTP_PROXY NO_PROXY TORCH_INDEX)

HOST="" CERT="" KEY="" WITH_NGINX=yes WITH_GPU="" WITH_SCAN="" ACTION=install CHANGED="" PYTHON=""

say() { printf '%s\n' "$*"; }
step() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }
changed() { CHANGED="$CHANGED $1"; step "$2"; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
has_systemd() { [ -d /run/systemd/system ]; }

parse() {
  while [ $# -gt 0 ]; do
    case $1 in
      install | upgrade) ACTION=install ;;
      uninstall) ACTION=uninstall ;;
      --host) HOST=${2:?--host needs a name}; shift ;;
      --cert) CERT=${2:?--cert needs a file}; shift ;;
      --key) KEY=${2:?--key needs a file}; shift ;;
      --no-nginx) WITH_NGINX="" ;;
      --gpu) WITH_GPU=yes ;;
      --scan) WITH_SCAN=yes ;;
      -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"; exit 0 ;;
      *) fail "unknown word $1 (--help lists them)" ;;
    esac
    shift
  done
  [ -z "$CERT$KEY" ] || { [ -r "$CERT" ] && [ -r "$KEY" ]; } || fail "--cert and --key go together, and must be readable files"
  [[ -z $HOST || $HOST =~ ^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$ ]] || fail "--host $HOST is no host name"
}

# -- the system ---------------------------------------------------------------------------------------------------

family() {
  [ -r /etc/os-release ] || fail "this system does not say what it is (/etc/os-release)"
  # shellcheck disable=SC1091
  . /etc/os-release
  case " ${ID:-} ${ID_LIKE:-} " in
    *" debian "* | *" ubuntu "*) echo debian ;;
    *" rhel "* | *" centos "* | *" fedora "* | *" openEuler "* | *" openeuler "* | *" anolis "* | *" kylin "*) echo rhel ;;
    *) fail "${PRETTY_NAME:-this system} is not supported; docs/operations.md says how to install by hand" ;;
  esac
}

install_packages() {
  if [ "$FAMILY" = debian ]; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null
  else
    "$(has dnf && echo dnf || echo yum)" install -y -q "$@" >/dev/null
  fi
}

# Installs those of PROGRAM:PACKAGE whose program is missing.
need() {
  local pair missing=()
  for pair in "$@"; do
    PATH=$PATH:/usr/sbin:/sbin has "${pair%%:*}" || missing+=("${pair#*:}")
  done
  [ ${#missing[@]} -eq 0 ] && return
  [ "$FAMILY" = debian ] && [ -z "${UPDATED:-}" ] && { apt-get update -qq; UPDATED=yes; }
  changed packages "installing packages: ${missing[*]}"
  install_packages "${missing[@]}" || fail "the packages could not be installed (see above): ${missing[*]}"
}

is_new_enough() { has "$1" && "$1" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  local name
  for name in python3.13 python3.12 python3.11 python3; do
    if is_new_enough "$name"; then PYTHON=$(command -v "$name"); return 0; fi
  done
  return 1
}

need_python() {
  find_python && return
  if [ "$FAMILY" = debian ]; then
    apt-get update -qq; UPDATED=yes
    install_packages python3 python3-venv || true
    find_python || install_packages python3.11 python3.11-venv || true
  else
    install_packages python3.11 || install_packages python3 || true
  fi
  changed packages "installing Python"
  find_python || fail "Python 3.11 or newer is needed, and this system's repositories have none. Debian 12, Ubuntu 22.04, \
RHEL 8.8 and relatives, openEuler 24.03 and Anolis 23 have one; on others build it (https://www.python.org/downloads/source/) \
with --prefix=/usr/local, then run this again."
}

service_is() { # service_is start|restart|reload NAME
  if has_systemd; then systemctl "$1" "$2"; else service "$2" "$1" >/dev/null 2>&1 || true; fi
}

# -- files --------------------------------------------------------------------------------------------------------

# put MODE OWNER TARGET: writes standard input there if it differs; succeeds only then.
put() {
  local new
  new=$(mktemp)
  cat >"$new"
  if [ -f "$3" ] && cmp -s "$new" "$3"; then rm -f "$new"; return 1; fi
  install -D -m "$1" -o "${2%:*}" -g "${2#*:}" "$new" "$3"
  rm -f "$new"
}

make_user() {
  if ! id clawdbot >/dev/null 2>&1; then
    useradd --system --user-group --home-dir "$HOME_DIR" --no-create-home --shell /usr/sbin/nologin clawdbot
    changed user "made the user clawdbot"
  fi
  install -d -m 700 -o clawdbot -g clawdbot "$DATA_DIR"
  install -d -m 750 -o clawdbot -g clawdbot /var/log/clawdbot
  install -d -m 755 -o root -g root "$CONFIG_DIR"
}

remember() {
  local name
  if [ -r "$INSTALL_ENV" ]; then
    while IFS='=' read -r name value; do
      [ -n "${!name:-}" ] || export "$name=$value"
    done <"$INSTALL_ENV"
  fi
  for name in "${REMEMBERED[@]}"; do [ -z "${!name:-}" ] || printf '%s=%s\n' "$name" "${!name}"; done | put 640 root:clawdbot "$INSTALL_ENV" || true
}

version_of_source() {
  if git -C "$SOURCE" rev-parse HEAD >/dev/null 2>&1; then
    git -c safe.directory='*' -C "$SOURCE" describe --tags --always --abbrev=40
  else
    (cd "$SOURCE" && find . -path ./.venv -prune -o -path ./var -prune -o -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-40)
  fi
}

copy_code() {
  [ "$SOURCE" != "$HOME_DIR" ] || return 0
  local version new=$HOME_DIR.new old=$HOME_DIR.old
  version=$(version_of_source)
  [ "$version" != "$(cat "$HOME_DIR/VERSION" 2>/dev/null)" ] || return 0
  rm -rf "$new" "$old"
  mkdir -p "$new"
  if git -C "$SOURCE" rev-parse HEAD >/dev/null 2>&1; then
    git -c safe.directory='*' -C "$SOURCE" archive HEAD | tar -x -C "$new"
  else
    tar -c -C "$SOURCE" --exclude ./.venv --exclude ./var . | tar -x -C "$new"
  fi
  echo "$version" >"$new/VERSION"
  chown -R root:root "$new"
  chmod -R u=rwX,go=rX "$new"
  [ ! -d "$HOME_DIR/.venv" ] || mv "$HOME_DIR/.venv" "$new/.venv"
  [ ! -d "$HOME_DIR" ] || mv "$HOME_DIR" "$old"
  mv "$new" "$HOME_DIR"
  rm -rf "$old"
  changed code "copied version $version to $HOME_DIR"
}

install_python_packages() {
  local wanted=$HOME_DIR/requirements/production.txt stamp=$HOME_DIR/.venv/installed-production digest
  [ -z "$WITH_GPU" ] || wanted=$HOME_DIR/requirements/gpu.txt
  [ -x "$HOME_DIR/.venv/bin/python" ] || "$PYTHON" -m venv "$HOME_DIR/.venv"
  digest=$(sha256sum "$wanted" | cut -d' ' -f1)
  [ "$digest" != "$(cat "$stamp" 2>/dev/null)" ] || return 0
  changed venv "installing Python packages (some minutes)"
  "$HOME_DIR/.venv/bin/pip" install --quiet --disable-pip-version-check --no-input --require-hashes -r "$wanted" ||
    fail "pip failed (see above). A mirror: PIP_INDEX_URL=https://…/simple, a proxy: HTTPS_PROXY=http://…; then run this again"
  if [ -n "$WITH_GPU" ]; then
    [ -n "${TORCH_INDEX:-}" ] || [ -e /proc/driver/nvidia/version ] || TORCH_INDEX=$CPU_INDEX
    "$HOME_DIR/.venv/bin/pip" install --quiet --disable-pip-version-check --no-input ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$TORCH"
  fi
  echo "$digest" >"$stamp"
}

# -- database, Redis, settings ------------------------------------------------------------------------------------

random() { "$PYTHON" -c 'import secrets; print(secrets.token_urlsafe(48))'; }

as_postgres() { (cd / && runuser -u postgres -- psql -v ON_ERROR_STOP=1 -qAt "$@"); }

make_database() {
  local password=$1 hba
  if [ "$FAMILY" = rhel ] && [ ! -f /var/lib/pgsql/data/PG_VERSION ]; then postgresql-setup --initdb >/dev/null; fi
  ! has_systemd || systemctl enable --quiet postgresql
  service_is start postgresql
  wait_for "PostgreSQL" as_postgres -c 'SELECT 1' postgres
  hba=$(as_postgres -c 'SHOW hba_file' postgres)
  if [ "$FAMILY" = rhel ] && ! grep -q '^host clawdbot ' "$hba"; then
    sed -i '1i host clawdbot clawdbot 127.0.0.1/32 scram-sha-256' "$hba"
    service_is reload postgresql
  fi
  [ -n "$(as_postgres -c "SELECT 1 FROM pg_roles WHERE rolname = 'clawdbot'" postgres)" ] || as_postgres -c 'CREATE ROLE clawdbot LOGIN' postgres
  as_postgres postgres <<<"SET password_encryption = 'scram-sha-256'; ALTER ROLE clawdbot PASSWORD '$password';"
  [ -n "$(as_postgres -c "SELECT 1 FROM pg_database WHERE datname = 'clawdbot'" postgres)" ] ||
    as_postgres -c "CREATE DATABASE clawdbot OWNER clawdbot ENCODING 'UTF8' TEMPLATE template0" postgres
  changed database "made the database clawdbot"
}

# A database that is kept from an earlier installation keeps its settings file, so this runs on a first run only.
make_redis() {
  local password=$1 file
  for file in /etc/redis/redis.conf /etc/redis.conf; do [ ! -f "$file" ] || break; done
  [ -f "$file" ] || fail "the settings of Redis are not where they should be (/etc/redis/redis.conf)"
  if grep -Eq '^requirepass ' "$file"; then
    fail "Redis has a password already. Run again with REDIS_URL=redis://:PASSWORD@127.0.0.1:6379/0"
  fi
  printf '\n# ClawdBot\nrequirepass %s\n' "$password" >>"$file"
  local unit=redis
  [ "$FAMILY" != debian ] || unit="redis-server"
  ! has_systemd || systemctl enable --quiet "$unit"
  service_is restart "$unit"
}

make_settings() {
  [ ! -f "$ENV_FILE" ] || return 0
  [ -z "$(ls -A "$DATA_DIR")" ] || fail "$DATA_DIR holds data, and $ENV_FILE is gone. Bring it back from a backup: only its keys open the data"
  local database=${DATABASE_URL:-} redis=${REDIS_URL:-} password
  HOST=${HOST:-$(hostname -f 2>/dev/null || hostname)}
  if [ -z "$database" ]; then
    if [ "$FAMILY" = debian ]; then need psql:postgresql; else need postgresql-setup:postgresql-server psql:postgresql; fi
    password=$(random)
    make_database "$password"
    database=postgres://clawdbot:$password@127.0.0.1:5432/clawdbot
  fi
  if [ -z "$redis" ]; then
    if [ "$FAMILY" = debian ]; then need redis-server:redis-server; else need redis-server:redis; fi
    password=$(random)
    make_redis "$password"
    redis=redis://:$password@127.0.0.1:6379/0
  fi
  [ -n "${MODEL_ENDPOINT:-}$WITH_GPU" ] || say "No model yet: enter a service in the admin (Models), or install with --gpu for local ones."
  put 600 root:root "$ENV_FILE" <<EOF
# ClawdBot's settings. All names: $HOME_DIR/docs/settings.md. After a change: systemctl restart clawdbot
DJANGO_SETTINGS_MODULE=clawdbot_site.settings.production
CLAWDBOT_DATA_DIR=$DATA_DIR
CLAWDBOT_PUBLIC_URL=https://$HOST
TRUSTED_PROXIES=127.0.0.1
DATABASE_URL=$database
REDIS_URL=$redis
SECRET_KEY=$(random)
FIELD_ENCRYPTION_KEYS=$("$PYTHON" -c 'import base64, secrets; print(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())')
LOG_FORMAT=json
LOG_ROTATION=external
# Log files besides journald:
#LOG_DIR=/var/log/clawdbot
# Outgoing calls through a proxy, like http://10.0.0.2:3128
${HTTPS_PROXY:+OUTBOUND_PROXY=$HTTPS_PROXY}
# The model service that the demo bot asks
${MODEL_ENDPOINT:+MODEL_ENDPOINT=$MODEL_ENDPOINT}
${MODEL_API_KEY:+MODEL_API_KEY=$MODEL_API_KEY}
${MODEL_NAME:+MODEL_NAME=$MODEL_NAME}
EOF
  changed settings "wrote $ENV_FILE. Keep a copy of its SECRET_KEY and FIELD_ENCRYPTION_KEYS apart from the database's backups"
}

setting() { sed -n "s/^$1=//p" "$ENV_FILE" | tail -1; }

# -- programs that run --------------------------------------------------------------------------------------------

install_units() {
  local name is_new=""
  for name in $(cd "$HOME_DIR/deploy/systemd" && ls); do
    if put 644 root:root "$UNIT_DIR/$name" <"$HOME_DIR/deploy/systemd/$name"; then is_new=yes; fi
  done
  if [ -n "$is_new" ]; then
    changed units "installed the systemd units"
    ! has_systemd || systemctl daemon-reload
  fi
}

install_wrapper() {
  if put 755 root:root /usr/local/bin/clawdbot <<'EOF'; then changed wrapper "installed the command clawdbot"; fi
#!/bin/sh
# manage.py with the site's settings and as its user: clawdbot doctor
set -eu
[ "$(id -u)" = 0 ] || { echo "Run it as root: sudo clawdbot $*" >&2; exit 1; }
set -a
. /etc/clawdbot/clawdbot.env
set +a
cd /opt/clawdbot
exec runuser -u clawdbot -- .venv/bin/python manage.py "$@"
EOF
}

install_logrotate() {
  if put 644 root:root /etc/logrotate.d/clawdbot <"$HOME_DIR/deploy/logrotate/clawdbot"; then changed logrotate "installed the rotation of logs"; fi
}

install_nginx() {
  [ -n "$WITH_NGINX" ] || return 0
  local host tls=$CONFIG_DIR/tls
  host=$(setting CLAWDBOT_PUBLIC_URL)
  host=${host#https://}
  install -d -m 700 "$tls"
  if [ -n "$CERT" ]; then
    if put 600 root:root "$tls/fullchain.pem" <"$CERT"; then changed nginx "installed the certificate"; fi
    if put 600 root:root "$tls/privkey.pem" <"$KEY"; then changed nginx "installed its key"; fi
  elif [ ! -f "$tls/fullchain.pem" ]; then
    openssl req -x509 -newkey rsa:2048 -nodes -days 90 -subj "/CN=$host" -addext "subjectAltName=DNS:$host" \
      -keyout "$tls/privkey.pem" -out "$tls/fullchain.pem" 2>/dev/null
    chmod 600 "$tls"/*.pem
    changed nginx "made a self-signed certificate: replace it by --cert FILE --key FILE, platforms do not take it"
  fi
  if sed "s/bots\.example\.com/$host/g" "$HOME_DIR/deploy/nginx/clawdbot.conf" | put 644 root:root /etc/nginx/conf.d/clawdbot.conf; then
    changed nginx "installed nginx's file for $host"
  fi
  case $CHANGED in *nginx*) ;; *) return 0 ;; esac
  nginx -t -q || fail "nginx does not take /etc/nginx/conf.d/clawdbot.conf (see above)"
  if has getenforce && [ "$(getenforce)" = Enforcing ]; then setsebool -P httpd_can_network_connect 1; fi
  if has firewall-cmd && firewall-cmd --state >/dev/null 2>&1; then
    firewall-cmd --quiet --permanent --add-service=http --add-service=https
    firewall-cmd --quiet --reload
  fi
  ! has_systemd || systemctl enable --quiet nginx
  service_is start nginx
  service_is reload nginx
}

UNITS=(clawdbot.socket clawdbot.service clawdbot-worker.service clawdbot-beat.service clawdbot-listen.service clawdbot-backup.timer)

start() {
  [ -z "$WITH_SCAN" ] || UNITS+=(clawdbot-scan.timer)
  if [ -n "$WITH_GPU" ]; then UNITS+=(clawdbot-gpu-worker@inference.service); else UNITS+=(clawdbot-inference.service); fi
  if ! has_systemd; then
    say "systemd does not run here, so nothing is started. By hand, with the settings of $ENV_FILE and as the user clawdbot:"
    sed -n 's/^ExecStart=/  /p' "$UNIT_DIR"/clawdbot.service "$UNIT_DIR"/clawdbot-{worker,inference,beat,listen}.service | sed 's/ --fd 3//; s/%%/%/g'
    return
  fi
  systemctl enable --quiet "${UNITS[@]}"
  case $CHANGED in
    *code* | *venv* | *units* | *settings*) step "starting"; systemctl start clawdbot.socket; systemctl restart clawdbot.service ;;
    *) systemctl start "${UNITS[@]}" ;;
  esac
  systemctl start "${UNITS[@]}"
  wait_for "the site" curl -fsS -o /dev/null http://127.0.0.1:18789/readyz
}

wait_for() { # wait_for WHAT COMMAND…
  local what=$1 tries=0
  shift
  until "$@" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 60 ] || fail "$what does not answer. Look at: journalctl -u clawdbot -n 50"
    sleep 1
  done
}

sum_up() {
  if [ -z "$CHANGED" ]; then say "Nothing changed: version $(cat "$HOME_DIR/VERSION" 2>/dev/null || echo "of $HOME_DIR") is installed."; return; fi
  step "done"
  say "Open $(setting CLAWDBOT_PUBLIC_URL)/admin/ and sign in as admin; the password is in $DATA_DIR/admin-password."
  say "Look at it: systemctl status clawdbot, journalctl -u clawdbot, clawdbot doctor"
}

uninstall() {
  local unit
  if has_systemd; then
    systemctl disable --now --quiet "${UNITS[@]}" clawdbot-inference.service clawdbot-scan.timer 'clawdbot-gpu-worker@*' 2>/dev/null || true
  fi
  for unit in "$SOURCE"/deploy/systemd/*; do rm -f "$UNIT_DIR/$(basename "$unit")"; done
  rm -f /etc/nginx/conf.d/clawdbot.conf /etc/logrotate.d/clawdbot /usr/local/bin/clawdbot
  rm -rf "$HOME_DIR" "$HOME_DIR.new" "$HOME_DIR.old" /var/cache/clawdbot /var/cache/clawdbot-scan
  if has_systemd; then systemctl daemon-reload; systemctl reload nginx 2>/dev/null || true; fi
  say "ClawdBot is removed. Left, for you to delete or to install again upon: $DATA_DIR, $CONFIG_DIR (settings and keys),"
  say "/var/log/clawdbot, the user clawdbot, and the PostgreSQL database clawdbot."
}

main() {
  parse "$@"
  [ "$(id -u)" = 0 ] || fail "run it as root: sudo $0 $*"
  if [ "$ACTION" = uninstall ]; then uninstall; return; fi
  FAMILY=$(family)
  umask 022
  need_python
  need curl:curl tar:tar git:git openssl:openssl logrotate:logrotate runuser:util-linux
  [ -z "$WITH_NGINX" ] || need nginx:nginx
  make_user
  remember
  make_settings
  copy_code
  install_python_packages
  install_units
  install_wrapper
  install_logrotate
  install_nginx
  start
  sum_up
}

main "$@"
