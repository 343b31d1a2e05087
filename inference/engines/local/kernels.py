"""Triton kernels: attention of single new tokens over a paged cache, and the store into it. Knows no batch.

A long sequence is cut into parts that are computed side by side (split-KV), and their results are combined by their
largest score. All sums are in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

_MIN_DOT_ROWS = 16  # what a matrix unit takes at least
_MAX_SPLITS = 32
_SHARED_BYTES = 96 * 1024  # what every GPU has that a chat model is run on
_BLOCKS_PER_PROCESSOR = 2


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the work is cut. Changes the speed alone."""

    keys: int = 64  # at once
    warps: int = 4
    stages: int = 2
    splits: int | None = None  # None: as many as fill the device


@triton.jit(do_not_specialize=["window", "table_stride"])  # they vary; each variant is compiled anew
def _attend_part(
    query,
    keys,
    values,
    table,
    lengths,
    out,
    largest_out,
    sum_out,
    scaling,
    softcap,
    window,
    query_stride,
    query_head_stride,
    key_stride,
    key_head_stride,
    value_stride,
    value_head_stride,
    table_stride,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    KEY_SIZE: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    VALUE_BLOCK: tl.constexpr,
    PAGE: tl.constexpr,
    KEYS: tl.constexpr,
    SPLITS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):
    """One part of one sequence, for all query heads that share one key head."""
    row, kv_head, part = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    length = tl.load(lengths + row).to(tl.int32)
    first = 0
    if HAS_WINDOW:
        first = tl.maximum(length - window, 0)
    per_part = tl.cdiv(tl.cdiv(length - first, SPLITS), KEYS) * KEYS
    begin = first + part * per_part
    end = tl.minimum(begin + per_part, length)

    in_group = tl.arange(0, ROWS)
    heads = kv_head * GROUP + in_group
    key_at, value_at = tl.arange(0, KEY_BLOCK), tl.arange(0, VALUE_BLOCK)
    is_head = in_group[:, None] < GROUP
    asked = tl.load(
        query + row * query_stride + heads[:, None] * query_head_stride + key_at[None, :],
        mask=is_head & (key_at[None, :] < KEY_SIZE),
        other=0.0,
    )
    largest = tl.full([ROWS], float("-inf"), dtype=tl.float32)
    total = tl.zeros([ROWS], dtype=tl.float32)
    mixed = tl.zeros([ROWS, VALUE_BLOCK], dtype=tl.float32)
    for start in range(begin, end, KEYS):
        at = start + tl.arange(0, KEYS)
        is_seen = at < end
        page = tl.load(table + row * table_stride + at // PAGE, mask=is_seen, other=0).to(tl.int64)
        place = page * PAGE + at % PAGE
        key = tl.load(
            keys + place[None, :] * key_stride + kv_head * key_head_stride + key_at[:, None],
            mask=is_seen[None, :] & (key_at[:, None] < KEY_SIZE),
            other=0.0,
        )
        scores = tl.dot(asked, key, input_precision="ieee") * scaling
        if HAS_SOFTCAP:
            scores = softcap * (2 * tl.sigmoid(2 * scores / softcap) - 1)  # tanh
        scores = tl.where(is_seen[None, :], scores * 1.4426950408889634, float("-inf"))
        new_largest = tl.maximum(largest, tl.max(scores, 1))
        shrunk = tl.exp2(largest - new_largest)
        shares = tl.exp2(scores - new_largest[:, None])
        value = tl.load(
            values + place[:, None] * value_stride + kv_head * value_head_stride + value_at[None, :],
            mask=is_seen[:, None] & (value_at[None, :] < VALUE_SIZE),
            other=0.0,
        )
        total = total * shrunk + tl.sum(shares, 1)
        mixed = mixed * shrunk[:, None] + tl.dot(shares.to(value.dtype), value, input_precision="ieee")
        largest = new_largest

    to = (row * tl.num_programs(1) * GROUP + heads) * SPLITS + part
    is_value = is_head & (value_at[None, :] < VALUE_SIZE)
    if SPLITS == 1:
        done = mixed / total[:, None]
        tl.store(out + to[:, None] * VALUE_SIZE + value_at[None, :], done.to(out.dtype.element_ty), mask=is_value)
    else:
        tl.store(out + to[:, None] * VALUE_SIZE + value_at[None, :], mixed, mask=is_value)
        tl.store(largest_out + to, largest, mask=in_group < GROUP)
        tl.store(sum_out + to, total, mask=in_group < GROUP)


@triton.jit
def _combine(
    parts,
    largest_in,
    sum_in,
    out,
    VALUE_SIZE: tl.constexpr,
    VALUE_BLOCK: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """The parts of one query head. The first part is never empty."""
    head = tl.program_id(0).to(tl.int64)
    part, value_at = tl.arange(0, SPLITS), tl.arange(0, VALUE_BLOCK)
    largest = tl.load(largest_in + head * SPLITS + part)
    weights = tl.exp2(largest - tl.max(largest, 0))
    total = tl.sum(weights * tl.load(sum_in + head * SPLITS + part), 0)
    mixed = tl.load(
        parts + (head * SPLITS + part[:, None]) * VALUE_SIZE + value_at[None, :],
        mask=value_at[None, :] < VALUE_SIZE,
        other=0.0,
    )
    done = tl.sum(mixed * weights[:, None], 0) / total
    tl.store(out + head * VALUE_SIZE + value_at, done.to(out.dtype.element_ty), mask=value_at < VALUE_SIZE)


@triton.jit
def _store(
    key,
    value,
    keys,
    values,
    places,
    key_stride,
    key_head_stride,
    value_stride,
    value_head_stride,
    HEADS: tl.constexpr,
    KEY_SIZE: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    VALUE_BLOCK: tl.constexpr,
):
    """One head of one new token."""
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place = tl.load(places + token).to(tl.int64) * HEADS + head
    key_at, value_at = tl.arange(0, KEY_BLOCK), tl.arange(0, VALUE_BLOCK)
    is_key, is_value = key_at < KEY_SIZE, value_at < VALUE_SIZE
    new_key = tl.load(key + token * key_stride + head * key_head_stride + key_at, mask=is_key)
    new_value = tl.load(value + token * value_stride + head * value_head_stride + value_at, mask=is_value)
    tl.store(keys + place * KEY_SIZE + key_at, new_key, mask=is_key)
    tl.store(values + place * VALUE_SIZE + value_at, new_value, mask=is_value)


def attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    table: Tensor,
    lengths: Tensor,
    *,
    scaling: float,
    sliding_window: int | None = None,
    softcap: float | None = None,
    tuning: Tuning = Tuning(),
) -> Tensor:
    """[rows, heads, size], [pages, page, kv heads, size] twice, [rows, pages], [rows] -> [rows, heads, value size].

    ``lengths`` count the new token, whose key and value are in the cache already; each is at least 1. The last
    dimension of query, keys and values must be dense.
    """
    rows, heads, key_size = query.shape
    _, page, kv_heads, value_size = values.shape
    key_block, value_block = (max(_MIN_DOT_ROWS, triton.next_power_of_2(size)) for size in (key_size, value_size))
    at_once = keys_at_once(tuning, (key_block + value_block) * query.element_size())
    splits = tuning.splits or splits_for(rows * kv_heads, table.shape[1] * page, at_once, query.device)
    out = query.new_empty(rows, heads, value_size)
    parts, largest, total = out, out, out  # not used where there is one part
    if splits > 1:
        parts = query.new_empty(rows, heads, splits, value_size, dtype=torch.float32)
        largest, total = (query.new_empty(rows, heads, splits, dtype=torch.float32) for _ in range(2))
    _attend_part[rows, kv_heads, splits](
        query,
        keys,
        values,
        table,
        lengths,
        parts,
        largest,
        total,
        scaling,
        softcap or 0.0,
        sliding_window or 0,
        query.stride(0),
        query.stride(1),
        keys.stride(1),
        keys.stride(2),
        values.stride(1),
        values.stride(2),
        table.stride(0),
        GROUP=heads // kv_heads,
        ROWS=max(_MIN_DOT_ROWS, triton.next_power_of_2(heads // kv_heads)),
        KEY_SIZE=key_size,
        KEY_BLOCK=key_block,
        VALUE_SIZE=value_size,
        VALUE_BLOCK=value_block,
        PAGE=page,
        KEYS=at_once,
        SPLITS=splits,
        HAS_SOFTCAP=softcap is not None,
        HAS_WINDOW=sliding_window is not None,
        num_warps=tuning.warps,
        num_stages=tuning.stages,
    )
    if splits > 1:
        _combine[rows * heads,](
            parts, largest, total, out, VALUE_SIZE=value_size, VALUE_BLOCK=value_block, SPLITS=splits, num_warps=2
        )
    return out


def store(key: Tensor, value: Tensor, keys: Tensor, values: Tensor, places: Tensor) -> None:
    """[tokens, kv heads, size] twice into [pages, page, kv heads, size] twice, at int [tokens]."""
    tokens, heads, key_size = key.shape
    value_size = value.shape[2]
    _store[tokens, heads](
        key,
        value,
        keys,
        values,
        places,
        key.stride(0),
        key.stride(1),
        value.stride(0),
        value.stride(1),
        HEADS=heads,
        KEY_SIZE=key_size,
        KEY_BLOCK=triton.next_power_of_2(key_size),
        VALUE_SIZE=value_size,
        VALUE_BLOCK=triton.next_power_of_2(value_size),
        num_warps=1,
    )


def keys_at_once(tuning: Tuning, bytes_each: int) -> int:
    """Fewer where so many large heads would not fit into a processor's own memory."""
    keys = tuning.keys
    while keys > _MIN_DOT_ROWS and keys * bytes_each * tuning.stages > _SHARED_BYTES:
        keys //= 2
    return keys


def splits_for(programs: int, longest: int, keys: int, device: torch.device) -> int:
    """A power of 2: so many parts that every processor has work, but none is shorter than two rounds of keys."""
    wanted = -(-_BLOCKS_PER_PROCESSOR * processors(device) // programs)
    useful = max(1, longest // (2 * keys))
    splits = 1
    while splits < min(wanted, useful, _MAX_SPLITS):
        splits *= 2
    return splits


def processors(device: torch.device) -> int:
    """Streaming multiprocessors; 1 where there is no such thing."""
    return int(torch.cuda.get_device_properties(device).multi_processor_count) if device.type == "cuda" else 1
