"""Threads that are used again: as many as are needed at once, no more, and none for long without work."""

from __future__ import annotations

import threading
import time

import pytest
from django.db import connection

from bots.models import Message
from bots.spare_threads import SpareThreads

LONG_S = 10


def test_work_one_after_the_other_shares_a_thread_and_its_connection(transactional_db):
    threads, seen = SpareThreads("test"), []

    def work() -> None:
        Message.objects.count()
        seen.append((threading.get_ident(), id(connection.connection)))

    for _ in range(3):
        assert threads.start(work).wait(LONG_S)

    assert len(set(seen)) == 1


def test_work_that_waits_keeps_no_other_work_waiting(transactional_db):
    threads, may_end = SpareThreads("test"), threading.Event()
    first = threads.start(lambda: may_end.wait(LONG_S) and None)

    assert threads.start(lambda: None).wait(LONG_S)
    assert not first.is_set()

    may_end.set()
    assert first.wait(LONG_S)


def test_broken_work_ends_and_its_thread_goes_on(transactional_db, caplog):
    threads, names = SpareThreads("test"), []

    def broken() -> None:
        names.append(threading.get_ident())
        raise ValueError("broken work")

    assert threads.start(broken).wait(LONG_S)
    assert threads.start(lambda: names.append(threading.get_ident())).wait(LONG_S)

    assert names[0] == names[1]
    assert "broken work" in caplog.text


@pytest.mark.parametrize("starts", [1, 3])
def test_threads_without_work_go_away(transactional_db, starts):
    threads = SpareThreads("test-short", idle_s=0.05)
    for ended in [threads.start(lambda: time.sleep(0.01)) for _ in range(starts)]:
        assert ended.wait(LONG_S)

    until = time.monotonic() + LONG_S
    while any(thread.name == "test-short" for thread in threading.enumerate()) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(thread.name == "test-short" for thread in threading.enumerate())
    assert threads.start(lambda: None).wait(LONG_S)
