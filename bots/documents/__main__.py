"""The reading process: a file on standard input, JSON on standard output. Started by apart.py."""

from __future__ import annotations

import base64
import json
import resource
import sys

from bots.documents.reading import read

MOST_MEMORY_BYTES = 1024**3
MOST_CPU_S = 25


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it writes no file
    found = read(sys.stdin.buffer.read())
    image = base64.b64encode(found.image).decode()
    json.dump({"text": found.text, "image": image, "problem": found.problem, "is_cut": found.is_cut}, sys.stdout)


main()
