"""A bare Debian in a folder of its own, and in it what systemd would do with our units, by hand.

No systemd runs in it: the units' exact ExecStart lines are started, with their settings and as their user. It shares
the network of this machine, so the ports of nginx, PostgreSQL, Redis and the site must be free.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.chaos.crew import descendants
from tests.servers.site import until

MIRROR = "http://deb.debian.org/debian"
DEBOOTSTRAP = ("debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm")
PORTS = (80, 443, 5432, 6379, 18789)
PASSED = re.compile(r"PIP_(INDEX_URL|EXTRA_INDEX_URL|CERT|TRUSTED_HOST)$|.*_proxy$", re.IGNORECASE)
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
# What systemd does before it executes a unit's line: settings, folder, user, and for the site descriptor 3.
BEGIN = """
import os, pwd, re, shlex, socket, sys
name, *words = sys.argv[1:]
text = open(f"/etc/systemd/system/{name}.service").read()
line, = re.findall(r"^ExecStart=(.*)$", text, re.M)
env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
for path in re.findall(r"^EnvironmentFile=([^-].*)$", text, re.M):
    env.update(line.split("=", 1) for line in open(path).read().splitlines() if "=" in line and line[0] != "#")
env.update(pair.split("=", 1) for pair in re.findall(r"^Environment=(.*)$", text, re.M))
command = shlex.split(line.replace("%%", "%"))
if words:
    command = words
elif "--fd" in command:
    port = socket.create_server(("127.0.0.1", 18789), backlog=4096)
    os.dup2(port.fileno(), 3) if port.fileno() != 3 else os.set_inheritable(3, True)
user = pwd.getpwnam("clawdbot")
if os.fork():
    sys.exit()
os.setsid()
out = os.open(f"/var/log/{name}.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(os.open("/dev/null", os.O_RDONLY), 0), os.dup2(out, 1), os.dup2(out, 2)
os.setgroups([]), os.setgid(user.pw_gid), os.setuid(user.pw_uid), os.umask(0o077)
os.chdir("/opt/clawdbot")
os.execve(command[0], command, env)
"""


class Failed(Exception):
    """A command in the machine ended with another status than 0; the text is what it said."""


class BareMachine:
    def __init__(self, root: Path) -> None:
        self.root = root
        self._init: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def make(self, debian: Path) -> None:
        """A copy of the smallest Debian, which ``debian`` keeps, and this machine's certificate authorities: a proxy of
        the network may have its own."""
        taken = [port for port in PORTS if _answers(port)]
        assert not taken, f"ports {taken} of this machine are in use"
        if not debian.exists():
            subprocess.run(
                ["unshare", "--mount", *DEBOOTSTRAP, str(debian), MIRROR], check=True, stdout=subprocess.DEVNULL
            )
        subprocess.run(["cp", "--archive", str(debian), str(self.root)], check=True)
        shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")
        shutil.copy(AUTHORITIES, self.root / AUTHORITIES.relative_to("/"))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Its processes are in a namespace of their own: they end with it."""
        prepare = f"mount --rbind /dev {self.root}/dev && mount -t proc proc {self.root}/proc"
        space = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        line = f"{prepare} && exec chroot {self.root} sleep infinity"
        self._init = subprocess.Popen([*space, "sh", "-c", line])
        try:
            self._pid = until(self._first, "the machine does not start", 10)
            yield
        finally:
            self._init.kill()  # unshare takes SIGKILL alone while it waits
            self._init.wait(10)
            until(lambda: not any(map(_answers, PORTS)), "its processes do not end", 30)  # the kernel takes its time

    def _first(self) -> int:
        """Its process 1, once that is inside."""
        assert self._init
        return next((pid for pid in descendants(self._init.pid) if _root_of(pid) == self.root), 0)

    def run(self, line: str, **env: str) -> str:
        """By root, with a bash of its own; returns what it said. Raises Failed."""
        inside = ["nsenter", "--target", str(self._pid), "--mount", "--pid", "chroot", str(self.root)]
        given = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **env}
        passed = {name: value for name, value in os.environ.items() if PASSED.match(name)}
        command = [*inside, "bash", "-c", line]
        done = subprocess.run(
            command, env=passed | given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode:
            raise Failed(f"{line}\n{done.stdout}")
        return done.stdout

    def begin(self, unit: str, *instead: str) -> None:
        """What systemd does with a unit; ``instead``: other words than those of its ExecStart."""
        (self.root / "usr/local/sbin/begin.py").write_text(BEGIN)
        self.run(" ".join(["python3", "/usr/local/sbin/begin.py", unit, *instead]))

    def end(self) -> None:
        """SIGTERM to all that ClawdBot's user runs, as ``systemctl stop`` sends it."""
        for pid in self.processes():
            os.kill(pid, signal.SIGTERM)
        until(lambda: not self.processes(), "ClawdBot does not end", 60)

    def processes(self) -> dict[int, str]:
        """What ClawdBot's user runs: its id here, and its words."""
        users = (self.root / "etc/passwd").read_text("utf-8").splitlines()
        uid = next(int(line.split(":")[2]) for line in users if line.startswith("clawdbot:"))
        found = {pid: Path(f"/proc/{pid}") for pid in descendants(self._pid)}
        return {pid: words for pid, one in found.items() if (words := _words(one)) and one.stat().st_uid == uid}

    def bring(self, source: Path, commit: str, to: str) -> None:
        """A clone of ``source`` at a commit."""
        subprocess.run(["git", "clone", "-q", "--no-local", str(source), f"{self.root}{to}"], check=True)
        subprocess.run(["git", "-C", f"{self.root}{to}", "checkout", "-q", "--detach", commit], check=True)


def _root_of(pid: int) -> Path | None:
    with suppress(OSError):  # it has ended
        return Path(f"/proc/{pid}/root").readlink()
    return None


def _words(process: Path) -> str:
    """Empty where it has ended: nobody in there asks for the status of orphans."""
    with suppress(OSError):
        return (process / "cmdline").read_text("utf-8").replace("\0", " ").strip()
    return ""


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
