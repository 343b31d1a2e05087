"""Processes of test_rotation_at_work.py: ``write FOLDER`` changes and reads secrets for ever, ``move`` moves them once.

A write is noted in FOLDER after its commit: what is noted must never be lost.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clawdbot_site.settings.base")
django.setup()

from clawdbot_site.security import key_ring, reencryption  # noqa: E402  (Django must be ready first)
from clawdbot_site.security.models import SigningKey  # noqa: E402

PREFIX = "secret "


def fill(count: int) -> None:
    SigningKey.objects.bulk_create(
        SigningKey(kid=f"k{n}", private_pem=f"{PREFIX}0", public_jwk={}, state="retired") for n in range(count)
    )


def write(folder: Path, part: int, parts: int) -> None:
    """Each row has one writer, who finds in it what he wrote last; else an older value was put over his."""
    last: dict[str, int] = {}
    rows = list(SigningKey.objects.filter(state="retired").order_by("kid"))[part::parts]
    with (folder / f"written-{part}").open("a") as written, (folder / f"failed-{part}").open("a") as failed:
        number = 0
        while True:
            number += 1
            try:
                row = SigningKey.objects.get(pk=random.choice(rows).pk)
                assert row.private_pem == f"{PREFIX}{last.get(row.kid, 0)}", row.kid
                row.private_pem = f"{PREFIX}{number}"
                row.save(update_fields=["private_pem"])
                last[row.kid] = number
                written.write(f"{row.kid} {number}\n")
                written.flush()
            except Exception as error:  # noqa: BLE001  (whatever it is, the test shall name it)
                failed.write(f"{type(error).__name__}: {error}\n")
                failed.flush()


def move() -> None:
    key_ring.rotate()
    sys.stdout.write("moving\n")
    sys.stdout.flush()
    columns = reencryption.secret_columns_of(SigningKey)
    reencryption.reencrypt(columns, batch_rows=100)


if __name__ == "__main__":
    word, *more = sys.argv[1:]
    if word == "fill":
        fill(int(more[0]))
    elif word == "write":
        write(Path(more[0]), int(more[1]), int(more[2]))
    else:
        move()
