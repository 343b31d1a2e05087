/* Attention of a prompt's tokens over a paged cache, for a CPU and 32-bit numbers. Compiled with native.c.

A query is one head of one token. As many as fill two registers are computed together, each in a lane of its own: scores,
their softmax and what is mixed by them have one column a query, and need no sum across lanes. Keys and values are read
where they are; each of their numbers serves all lanes. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "native.h"

#define QUERIES (2 * LANES)
#define ROWS (SUMS / 2) /* keys, or places of a value, whose sums fit into the registers */
#define SEEN 64 /* keys at once: their scores stay in the first cache */
#define NOTHING -1e30f /* below any score, and still a number: nothing was seen yet */

typedef struct {
    float query[KEY_SIZE][QUERIES], score[SEEN][QUERIES], mix[VALUE_SIZE][QUERIES], top[QUERIES], sum[QUERIES];
    int64_t position[QUERIES];
    int count; /* of queries; the other lanes compute what nobody reads */
} Lanes;

typedef struct {
    vec first, second;
} Pair;

static inline Pair pair(const float *numbers) {
    return (Pair){*(const vec *)numbers, *(const vec *)(numbers + LANES)};
}

static inline void keep(Pair sums, float *numbers) {
    *(vec *)numbers = sums.first;
    *(vec *)(numbers + LANES) = sums.second;
}

static inline void add(Pair *sums, float number, Pair lanes) {
    sums->first += number * lanes.first;
    sums->second += number * lanes.second;
}

/* Always inlined with a constant number of rows, so that their sums are registers; the same goes for ``mix_rows``. */
static inline __attribute__((always_inline)) void ask_rows(int rows, Lanes *lanes, const float *const *keys, int first) {
    Pair sums[ROWS];
    for (int row = 0; row < rows; row++)
        sums[row] = (Pair){{0}, {0}};
    for (int at = 0; at < KEY_SIZE; at++)
        for (int row = 0; row < rows; row++)
            add(&sums[row], keys[first + row][at], pair(lanes->query[at]));
    for (int row = 0; row < rows; row++)
        keep(sums[row], lanes->score[first + row]);
}

static inline __attribute__((always_inline)) void mix_rows(int rows, Lanes *lanes, const float *const *values, int first,
                                                           int count) {
    Pair sums[ROWS];
    for (int row = 0; row < rows; row++)
        sums[row] = pair(lanes->mix[first + row]);
    for (int at = 0; at < count; at++)
        for (int row = 0; row < rows; row++)
            add(&sums[row], values[at][first + row], pair(lanes->score[at]));
    for (int row = 0; row < rows; row++)
        keep(sums[row], lanes->mix[first + row]);
}

static void ask_all(Lanes *lanes, const float *const *keys, int count) {
    int at = 0;
    for (; at + ROWS <= count; at += ROWS)
        ask_rows(ROWS, lanes, keys, at);
    for (; at < count; at++)
        ask_rows(1, lanes, keys, at);
}

static void mix_all(Lanes *lanes, const float *const *values, int count) {
    int at = 0;
    for (; at + ROWS <= VALUE_SIZE; at += ROWS)
        mix_rows(ROWS, lanes, values, at, count);
    for (; at < VALUE_SIZE; at++)
        mix_rows(1, lanes, values, at, count);
}

/* A lane sees keys up to its own position, and back to its window's start: one at least of the first keys, as there are
   more of them than lanes, so that what is hidden from it comes to nothing beside. */
static void hide(Lanes *lanes, int64_t first, int count, int64_t window) {
    for (int at = 0; at < count; at++)
        for (int lane = 0; lane < QUERIES; lane++) {
            int64_t behind = lanes->position[lane] - (first + at);
            if (behind < 0 || (window > 0 && behind >= window))
                lanes->score[at][lane] = NOTHING;
        }
}

static void soften(Lanes *lanes, int count, float softcap) {
    for (int at = 0; softcap > 0 && at < count; at++)
        for (int lane = 0; lane < QUERIES; lane++)
            lanes->score[at][lane] = softcap * tanhf(lanes->score[at][lane] / softcap);
}

/* Softmax as the keys come: what was summed before fades when a larger score turns up. */
static void fade(Lanes *lanes, int count) {
    float best[QUERIES], share[QUERIES];
    memcpy(best, lanes->top, sizeof best);
    for (int at = 0; at < count; at++)
        for (int lane = 0; lane < QUERIES; lane++)
            best[lane] = lanes->score[at][lane] > best[lane] ? lanes->score[at][lane] : best[lane];
    for (int lane = 0; lane < QUERIES; lane++)
        share[lane] = lanes->top[lane] - best[lane];
    exponentials(share, QUERIES);
    for (int lane = 0; lane < QUERIES; lane++)
        lanes->sum[lane] *= share[lane];
    for (int at = 0; at < VALUE_SIZE; at++)
        for (int lane = 0; lane < QUERIES; lane++)
            lanes->mix[at][lane] *= share[lane];
    memcpy(lanes->top, best, sizeof best);
}

static void weigh(Lanes *lanes, int count) {
    for (int at = 0; at < count; at++)
        for (int lane = 0; lane < QUERIES; lane++)
            lanes->score[at][lane] -= lanes->top[lane];
    exponentials(lanes->score[0], count * QUERIES);
}

static void add_up(Lanes *lanes, int count) {
    for (int at = 0; at < count; at++)
        for (int lane = 0; lane < QUERIES; lane++)
            lanes->sum[lane] += lanes->score[at][lane];
}

/* ``query`` is the key head's first one of the first token. */
static void load(Lanes *lanes, const float *query, int64_t first, int64_t queries, int64_t start, float scaling) {
    lanes->count = queries - first < QUERIES ? queries - first : QUERIES;
    for (int lane = 0; lane < QUERIES; lane++) {
        int64_t at = lane < lanes->count ? first + lane : first;
        const float *asked = query + (at / GROUP * HEADS + at % GROUP) * KEY_SIZE;
        for (int part = 0; part < KEY_SIZE; part++)
            lanes->query[part][lane] = asked[part] * scaling;
        lanes->position[lane] = start + at / GROUP;
        lanes->top[lane] = NOTHING;
        lanes->sum[lane] = 0;
    }
    memset(lanes->mix, 0, sizeof lanes->mix);
}

static void store(const Lanes *lanes, int64_t first, float *out) {
    for (int lane = 0; lane < lanes->count; lane++) {
        int64_t at = first + lane;
        float *mixed = out + (at / GROUP * HEADS + at % GROUP) * VALUE_SIZE;
        for (int part = 0; part < VALUE_SIZE; part++)
            mixed[part] = lanes->mix[part][lane] / lanes->sum[lane];
    }
}

typedef struct {
    const float *keys, *values;
    const int64_t *table;
    int64_t window;
    float softcap;
} Past;

/* So many keys from ``from`` on, the newest of which some lane may see. */
static void see(Lanes *lanes, const Past *past, int64_t kv_head, int64_t from, int count) {
    const float *keys[SEEN], *values[SEEN];
    for (int at = 0; at < count; at++) {
        int64_t place = past->table[(from + at) / PAGE] * PAGE + (from + at) % PAGE;
        keys[at] = past->keys + (place * KV_HEADS + kv_head) * KEY_SIZE;
        values[at] = past->values + (place * KV_HEADS + kv_head) * VALUE_SIZE;
    }
    int64_t oldest = lanes->position[0], newest = lanes->position[lanes->count - 1];
    ask_all(lanes, keys, count);
    soften(lanes, count, past->softcap);
    if (from + count - 1 > oldest || (past->window > 0 && newest - from >= past->window))
        hide(lanes, from, count, past->window);
    fade(lanes, count);
    weigh(lanes, count);
    add_up(lanes, count);
    mix_all(lanes, values, count);
}

/* query [tokens, HEADS, KEY_SIZE], of one sequence's tokens from ``start`` on; keys and values [pages, PAGE, KV_HEADS,
   size], with those of the tokens themselves; table [pages of the sequence]; window 0: all before is visible.
   Fills out [tokens, HEADS, VALUE_SIZE]. */
void attend_prompt(const float *query, const float *keys, const float *values, const int64_t *table, int64_t start,
                   int64_t tokens, float *out, int64_t window, float scaling, float softcap) {
    Past past = {keys, values, table, window, softcap};
    Lanes lanes;
    for (int64_t kv_head = 0; kv_head < KV_HEADS; kv_head++)
        for (int64_t first = 0; first < tokens * GROUP; first += QUERIES) {
            load(&lanes, query + kv_head * GROUP * KEY_SIZE, first, tokens * GROUP, start, scaling);
            int64_t end = lanes.position[lanes.count - 1] + 1, oldest = lanes.position[0] + 1 - window;
            for (int64_t from = window > 0 && oldest > 0 ? oldest : 0; from < end; from += SEEN)
                see(&lanes, &past, kv_head, from, end - from < SEEN ? end - from : SEEN);
            store(&lanes, first, out + kv_head * GROUP * VALUE_SIZE);
        }
}
