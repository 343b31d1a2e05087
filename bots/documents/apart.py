"""Reads a file in a process of its own, with limits on time and memory and without our secrets in its environment."""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

from bots.documents import plain
from bots.documents.kinds import kind_of
from bots.documents.results import Read, Unreadable

logger = logging.getLogger(__name__)
LONGEST_S: Final = 30.0
HOME: Final = Path(__file__).parents[2]
_places = threading.BoundedSemaphore(max(2, (os.cpu_count() or 2) // 2))  # many files at once wait for each other
COMMAND: Final = [sys.executable, "-m", "bots.documents"]


def read(data: bytes) -> Read:
    """Never raises for a bad file: the problem is in what it returns. Text needs no parser, so no process."""
    return _parsed(data) if kind_of(data) != "text" else _text(data)


def _text(data: bytes) -> Read:
    try:
        return plain.read(data)
    except Unreadable as reason:
        return Read(problem=reason.problem)


def _parsed(data: bytes) -> Read:
    with _places:
        return _read_apart(data)


def _read_apart(data: bytes) -> Read:
    try:
        done = subprocess.run(  # noqa: S603  (our own program; the file is its input, not an argument)
            COMMAND, input=data, capture_output=True, cwd=HOME, env={"LANG": "C.UTF-8"}, timeout=LONGEST_S, check=True
        )
        found = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return Read(problem="too_slow")
    except (subprocess.CalledProcessError, ValueError) as error:
        logger.warning("a file could not be read", extra={"reason": str(error)[:300]})
        return Read(problem="broken")
    image = base64.b64decode(found["image"])
    return Read(text=found["text"], image=image, problem=found["problem"], is_cut=found["is_cut"])
