/* Attention of single tokens over a paged cache, and RMS normalisation, for a CPU and 32-bit numbers.

Compiled when a model is loaded (native.py), with the sizes of its heads as constants: KV_HEADS, GROUP (query heads for
each key head), KEY_SIZE, VALUE_SIZE, PAGE. Numbers that are none must come out as such: no -ffinite-math-only. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "native.h"

/* What comes next is fetched into the second cache: the first one is filled by what is being read. */
static inline void fetch(const float *next) {
    __builtin_prefetch(next, 0, 2);
}

typedef struct {
    float top[HEADS], sum[HEADS], score[HEADS][PAGE], mix[HEADS][VALUE_SIZE];
} Row;

static void ask(Row *row, const float *query, const float *keys, const float *next, int count, float scaling) {
    for (int token = 0; token < count; token++) {
        for (int at = 0; at < KV_HEADS * KEY_SIZE; at += 16)
            fetch(next + token * KV_HEADS * KEY_SIZE + at);
        for (int head = 0; head < HEADS; head++) {
            const float *key = keys + (token * KV_HEADS + head / GROUP) * KEY_SIZE;
            const float *asked = query + head * KEY_SIZE;
            float product = 0;
            for (int at = 0; at < KEY_SIZE; at++)
                product += asked[at] * key[at];
            row->score[head][token] = product * scaling;
        }
    }
}

/* Softmax as the pages come: what was summed before fades when a larger score turns up. */
static void weigh(Row *row, int count, float softcap) {
    for (int head = 0; head < HEADS; head++) {
        float *score = row->score[head], best = row->top[head];
        for (int token = 0; softcap > 0 && token < count; token++)
            score[token] = softcap * tanhf(score[token] / softcap);
        for (int token = count; token < PAGE; token++)
            score[token] = -INFINITY;
        for (int token = 0; token < PAGE; token++)
            best = score[token] > best ? score[token] : best;
        if (best > row->top[head]) {
            float fade = expf(row->top[head] - best);
            row->top[head] = best;
            row->sum[head] *= fade;
            for (int at = 0; at < VALUE_SIZE; at++)
                row->mix[head][at] *= fade;
        }
        for (int token = 0; token < PAGE; token++)
            score[token] -= best;
        exponentials(score, PAGE);
        for (int token = count; token < PAGE; token++)
            score[token] = 0;
        for (int token = 0; token < PAGE; token++)
            row->sum[head] += score[token];
    }
}

static void gather(Row *row, const float *values, const float *next, int count) {
    for (int kv_head = 0; kv_head < KV_HEADS; kv_head++) {
        float mix[GROUP][VALUE_SIZE];
        memcpy(mix, row->mix[kv_head * GROUP], sizeof mix);
        for (int token = 0; token < count; token++) {
            int place = (token * KV_HEADS + kv_head) * VALUE_SIZE;
            for (int at = 0; at < VALUE_SIZE; at += 16)
                fetch(next + place + at);
            for (int head = 0; head < GROUP; head++) {
                float share = row->score[kv_head * GROUP + head][token];
                for (int at = 0; at < VALUE_SIZE; at++)
                    mix[head][at] += share * values[place + at];
            }
        }
        memcpy(row->mix[kv_head * GROUP], mix, sizeof mix);
    }
}

/* The page after this one, which may be the first of the next row. Only fetched ahead, so any page does no harm. */
static inline int32_t page_after(const int32_t *table, int64_t page, int64_t pages, int64_t to_next_row) {
    return table[page + 1 < pages ? page + 1 : to_next_row];
}

/* query [rows, HEADS, KEY_SIZE], keys and values [pages, PAGE, KV_HEADS, size], tables [rows, table_width],
   lengths [rows] with the new token, window 0: all is visible. Fills out [rows, HEADS, VALUE_SIZE]. */
void attend(const float *query, const float *keys, const float *values, const int32_t *tables, int64_t table_width,
            const int64_t *lengths, float *out, int64_t rows, int64_t window, float scaling, float softcap) {
    for (int64_t at_row = 0; at_row < rows; at_row++) {
        const int32_t *table = tables + at_row * table_width;
        int64_t length = lengths[at_row], pages = (length + PAGE - 1) / PAGE;
        int64_t to_next_row = at_row + 1 < rows ? table_width : 0;
        Row row;
        memset(&row, 0, sizeof row);
        for (int head = 0; head < HEADS; head++)
            row.top[head] = -INFINITY;
        for (int64_t at = window > 0 && length > window ? length - window : 0; at < length;) {
            int64_t in_page = at % PAGE, left = length - at;
            int count = left < PAGE - in_page ? left : PAGE - in_page;
            int64_t place = table[at / PAGE] * (int64_t)PAGE + in_page;
            int64_t next = page_after(table, at / PAGE, pages, to_next_row) * (int64_t)PAGE;
            ask(&row, query + at_row * HEADS * KEY_SIZE, keys + place * KV_HEADS * KEY_SIZE,
                keys + next * KV_HEADS * KEY_SIZE, count, scaling);
            weigh(&row, count, softcap);
            gather(&row, values + place * KV_HEADS * VALUE_SIZE, values + next * KV_HEADS * VALUE_SIZE, count);
            at += count;
        }
        for (int head = 0; head < HEADS; head++)
            for (int at = 0; at < VALUE_SIZE; at++)
                out[(at_row * HEADS + head) * VALUE_SIZE + at] = row.mix[head][at] / row.sum[head];
    }
}

/* given and out [rows, size]; the weight counts from ``more`` on (Gemma's from 1). */
void rms_norm(const float *given, const float *weight, float *out, int64_t rows, int64_t size, float epsilon,
              float more) {
    for (; rows > 0; rows--, given += size, out += size) {
        float squares = 0;
        for (int64_t at = 0; at < size; at++)
            squares += given[at] * given[at];
        float scale = 1.0f / sqrtf(squares / size + epsilon);
        for (int64_t at = 0; at < size; at++)
            out[at] = given[at] * scale * (weight[at] + more);
    }
}
