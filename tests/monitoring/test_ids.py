from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from monitoring.ids import uuid7


def test_ids_rise_when_made_one_after_another():
    ids = [uuid7() for _ in range(10_000)]

    assert ids == sorted(set(ids))
    assert {one.version for one in ids} == {7}


def test_ids_differ_when_made_in_several_threads():
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: uuid7(), range(10_000)))

    assert len(set(ids)) == 10_000
