"""A process that follows the network rules: ``python -m tests.servers.follower``. For each line it reads it prints the
verdict on the address in it.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clawdbot_site.settings.test")

import django

django.setup()

from clawdbot_site.security.rule_book import RuleBook


def main() -> None:
    book = RuleBook()
    book.load()
    book.start()
    print("ready", flush=True)
    for line in sys.stdin:
        print(book.decide(line.strip(), "site").reason, flush=True)


if __name__ == "__main__":
    main()
