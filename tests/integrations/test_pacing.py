"""The pace of calls: never faster than the limit, whoever asks and wherever; never stopped for want of Redis."""

from __future__ import annotations

import multiprocessing
import random
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Queue
from multiprocessing.synchronize import Barrier
from urllib.parse import urlsplit

import pytest
from redis.exceptions import RedisError

from integrations import pacing
from integrations.dingtalk import limits as dingtalk_limits
from integrations.feishu import limits as feishu_limits
from integrations.pacing import Bucket, Buckets, Limit, LocalBuckets, RedisBuckets, SafeBuckets

THREE_THEN_TEN_A_SECOND = Limit(burst=3, interval_s=0.1)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def bucket(limit: Limit = THREE_THEN_TEN_A_SECOND, scope: str = "api") -> Bucket:
    return Bucket(scope, f"{scope}:{time.monotonic_ns()}", limit)


@pytest.fixture(params=["local", "redis"])
def store(request: pytest.FixtureRequest) -> Buckets:
    return LocalBuckets() if request.param == "local" else RedisBuckets(request.getfixturevalue("redis_url"))


def test_a_burst_passes_at_once_and_the_next_call_waits_its_turn(store: Buckets) -> None:
    wanted = [bucket()]

    assert [store.take(wanted) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert 0.05 < store.take(wanted) <= 0.1
    time.sleep(0.11)
    assert store.take(wanted) == 0.0


def test_nothing_is_taken_when_one_of_the_buckets_is_empty(store: Buckets) -> None:
    chat, app = bucket(Limit(burst=1, interval_s=10.0), "chat"), bucket(Limit(burst=2, interval_s=10.0), "app")

    assert store.take([app, chat]) == 0.0
    assert 9.0 < store.take([app, chat]) <= 10.0
    assert store.take([app]) == 0.0


def test_a_bucket_that_is_held_gives_nothing_until_its_time(store: Buckets) -> None:
    held = bucket()

    store.hold(held, 0.2)

    assert 0.15 < store.take([held]) <= 0.2
    time.sleep(0.21)
    assert store.take([held]) == 0.0
    assert store.take([held]) > 0.0  # no burst after it


def test_a_shorter_hold_does_not_end_a_longer_one(store: Buckets) -> None:
    held = bucket()

    store.hold(held, 30.0)
    store.hold(held, 1.0)

    assert store.take([held]) > 29.0


def test_waiting_sleeps_until_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, started = [bucket()], time.monotonic()

    waits = [pacing.wait_for(wanted, 1.0) for _ in range(5)]

    assert waits == [0.0] * 5
    assert 0.2 <= time.monotonic() - started < 1.5


def test_waiting_is_refused_at_once_when_it_would_take_too_long() -> None:
    wanted, started = [bucket(Limit(burst=1, interval_s=60.0))], time.monotonic()

    assert pacing.wait_for(wanted, 1.0) == 0.0
    assert 59.0 < pacing.wait_for(wanted, 1.0) <= 60.0
    assert time.monotonic() - started < 10


def test_full_buckets_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "MOST_BUCKETS", 5)
    clock = Clock()
    store = LocalBuckets(clock)
    for number in range(5):
        store.take([Bucket("api", f"old-{number}", THREE_THEN_TEN_A_SECOND)])
    clock.now += 60
    store.take([Bucket("api", "new", THREE_THEN_TEN_A_SECOND)])

    assert list(store._fulls) == ["new"]


# -- all workers together ------------------------------------------------------------------------------------------


def _work(url: str, wanted: Bucket, start: Barrier, passed: Queue[list[float]]) -> None:
    """One worker process with four threads, each calling as often as it may for two seconds; tells when they passed."""
    store, moments = RedisBuckets(url), []
    store.take([])  # connected
    start.wait(timeout=60)
    until = time.time() + 2.0

    def call() -> None:
        while time.time() < until:
            if wait_s := store.take([wanted]):
                time.sleep(wait_s * random.uniform(0.5, 1.5))
            else:
                moments.append(time.time())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: call(), range(4)))
    passed.put(moments)


def test_two_processes_of_four_threads_never_exceed_the_limit(redis_url: str) -> None:
    wanted, context = bucket(Limit(burst=5, interval_s=0.05)), multiprocessing.get_context("spawn")
    start, passed = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_work, args=(redis_url, wanted, start, passed)) for _ in range(2)]
    for worker in workers:
        worker.start()
    results = [passed.get(timeout=90) for _ in workers]
    for worker in workers:
        worker.join()

    moments = sorted(results[0] + results[1])
    assert all(results), "both processes got through"
    for first, start_s in enumerate(moments):
        for last in range(first, len(moments)):
            noticed_late_s = 0.2  # a busy machine: from Redis's decision to the caller's clock
            window_s = moments[last] - start_s + noticed_late_s
            assert last - first + 1 <= 5 + window_s / 0.05


# -- Redis lost ----------------------------------------------------------------------------------------------------


class Cable:
    """A way to Redis that can be cut."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._target = (place.hostname or "127.0.0.1", place.port or 6379)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._ends += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                sink.sendall(data)
        except OSError:
            return

    def cut(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            end.close()


def test_calls_go_on_at_the_same_pace_when_redis_is_lost_in_the_middle(redis_url: str) -> None:
    cable = Cable(redis_url)
    store, wanted = SafeBuckets(RedisBuckets(cable.url), LocalBuckets()), [bucket()]
    assert [store.take(wanted) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert store.take(wanted) > 0.0
    cable.cut()

    started = time.monotonic()
    assert [store.take(wanted) for _ in range(3)] == [0.0, 0.0, 0.0]  # this process's own bucket
    assert store.take(wanted) > 0.0
    assert time.monotonic() - started < 3


def test_a_hold_is_kept_when_redis_is_lost_after_it(redis_url: str) -> None:
    cable = Cable(redis_url)
    store, held = SafeBuckets(RedisBuckets(cable.url), LocalBuckets()), bucket()
    store.hold(held, 30.0)
    cable.cut()

    assert store.take([held]) > 29.0


class Flaky(LocalBuckets):
    """A store that can be down, as redis-py reports it."""

    is_down = True

    def take(self, buckets: Sequence[Bucket]) -> float:
        if self.is_down:
            raise RedisError
        return super().take(buckets)


def test_redis_is_used_again_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "REDIS_REST_S", 0.05)
    shared, wanted = Flaky(), [bucket(Limit(burst=1, interval_s=60.0))]
    store = SafeBuckets(shared, LocalBuckets())
    assert store.take(wanted) == 0.0  # from its own bucket
    shared.is_down = False
    assert store.take(wanted) > 59.0  # which is still used for a moment
    time.sleep(0.06)

    assert store.take(wanted) == 0.0
    assert store.take(wanted) > 59.0


# -- the platforms' figures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "window_s", "allowed"),
    [
        (feishu_limits.API, 1, 50),
        (feishu_limits.API, 60, 1_000),
        (feishu_limits.CHAT, 1, 5),
        (feishu_limits.CARD, 1, 10),
        (dingtalk_limits.API, 1, 20),
        (dingtalk_limits.ADDRESS, 20, 10_000),
    ],
)
def test_limits_keep_within_what_the_platform_documents_in_any_window(
    limit: Limit, window_s: int, allowed: int
) -> None:
    clock = Clock()
    store, wanted, passed = LocalBuckets(clock), [Bucket("api", "one", limit)], []
    while clock.now < 1_000.0 + 1.5 * window_s:
        if wait_s := store.take(wanted):
            clock.now += wait_s + 1e-9
        else:
            passed.append(clock.now)

    first = sum(moment < 1_000.0 + window_s for moment in passed)
    assert first <= allowed
