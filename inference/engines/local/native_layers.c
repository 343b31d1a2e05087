/* A decoder layer of Llama's kind, before and after its attention, for a CPU and 32-bit numbers.

Compiled with native.c. Weights come packed (layers_native.py): the outputs of a product in panels of 32, each panel's
weights for one input side by side, filled up with zeros. ROWS_AT_ONCE rows pass all weights before the next ones do. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "native.h"

#define PANEL 32
#define PARTS (PANEL / LANES)
#define TILE (SUMS / PARTS) /* rows whose sums fit into the registers */
#define MOST_ROWS 8
#define EXPONENTIALS 256 /* at once */

typedef struct {
    const float *numbers;
    int64_t stride; /* from row to row; 0: the same for all */
} Rows;

static inline Rows rows_from(Rows rows, int64_t row, int64_t column) {
    return (Rows){rows.numbers ? rows.numbers + row * rows.stride + column : 0, rows.stride};
}

static inline __attribute__((always_inline)) void tile(int rows, Rows given, int64_t size, const float *panel, Rows start,
                                                       float *out, int64_t out_stride) {
    vec sums[MOST_ROWS][PARTS];
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < PARTS; part++)
            sums[row][part] = start.numbers ? *(const vec *)(start.numbers + row * start.stride + part * LANES) : (vec){0};
    for (int64_t at = 0; at < size; at++, panel += PANEL)
        for (int row = 0; row < rows; row++)
            for (int part = 0; part < PARTS; part++)
                sums[row][part] += given.numbers[row * given.stride + at] * *(const vec *)(panel + part * LANES);
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < PARTS; part++)
            *(vec *)(out + row * out_stride + part * LANES) = sums[row][part];
}

/* With the number of rows as a constant, so that their sums are registers. */
static void tile_of(int rows, Rows given, int64_t size, const float *panel, Rows start, float *out, int64_t out_stride) {
#define TILE_OF(count) \
    case count: \
        tile(count, given, size, panel, start, out, out_stride); \
        break;
    switch (rows) { TILE_OF(1) TILE_OF(2) TILE_OF(3) TILE_OF(4) TILE_OF(5) TILE_OF(6) TILE_OF(7) TILE_OF(8) }
}

/* given [rows, size] x packed [width / PANEL, size, PANEL] + start [rows, width] -> out [rows, width]; start may be out. */
static void multiply(Rows given, int64_t rows, int64_t size, const float *packed, int64_t width, Rows start, float *out) {
    for (int64_t first = 0; first < rows; first += ROWS_AT_ONCE) {
        int64_t last = first + ROWS_AT_ONCE < rows ? first + ROWS_AT_ONCE : rows;
        for (int64_t column = 0; column < width; column += PANEL)
            for (int64_t row = first; row < last; row += TILE)
                tile_of(last - row < TILE ? last - row : TILE, rows_from(given, row, 0), size, packed + column * size,
                        rows_from(start, row, column), out + row * width + column, width);
    }
}

/* given [rows, size] x packed -> out [rows, width]. */
void product(const float *given, int64_t rows, int64_t size, const float *packed, int64_t width, float *out) {
    multiply((Rows){given, size}, rows, size, packed, width, (Rows){0, 0}, out);
}

/* The sizes of a layer and where its weights are. Without a bias, or norms of queries and keys: null. */
typedef struct {
    int64_t hidden, inner, heads, kv_heads, head_size, qkv_width;
    const float *norm, *qkv, *qkv_bias, *query_norm, *key_norm, *out, *second_norm, *gate, *up, *down;
    float epsilon, second_epsilon, query_epsilon, key_epsilon;
} Layer;

/* Each head's two halves turn against each other (rotary positions), after their norm where there is one. */
static inline __attribute__((always_inline)) void turn_half(const float *restrict given, const float *restrict norm, float scale,
                                                            const float *restrict cosine, const float *restrict sine,
                                                            int64_t half, float *restrict out) {
    for (int64_t at = 0; at < half; at++) {
        float first = given[at], second = given[at + half];
        if (norm) {
            first *= scale * norm[at];
            second *= scale * norm[at + half];
        }
        out[at] = first * cosine[at] - second * sine[at];
        out[at + half] = second * cosine[at + half] + first * sine[at + half];
    }
}

static void turn(const float *given, const float *norm, float epsilon, const float *cosine, const float *sine, int64_t size,
                 float *out) {
    float squares = 0;
    if (!norm) {
        turn_half(given, 0, 1, cosine, sine, size / 2, out);
        return;
    }
    for (int64_t at = 0; at < size; at++)
        squares += given[at] * given[at];
    turn_half(given, norm, 1.0f / sqrtf(squares / size + epsilon), cosine, sine, size / 2, out);
}

static void some_before_attention(const Layer *layer, const float *given, const float *cosine, const float *sine,
                                  int64_t rows, float *query, float *key, float *value, float *room) {
    int64_t size = layer->head_size, keys = layer->heads * size, values = keys + layer->kv_heads * size;
    float *qkv = room + rows * layer->hidden;
    rms_norm(given, layer->norm, room, rows, layer->hidden, layer->epsilon, 0);
    multiply((Rows){room, layer->hidden}, rows, layer->hidden, layer->qkv, layer->qkv_width, (Rows){layer->qkv_bias, 0}, qkv);
    for (int64_t row = 0; row < rows; row++, qkv += layer->qkv_width, cosine += size, sine += size) {
        for (int64_t head = 0; head < layer->heads; head++, query += size)
            turn(qkv + head * size, layer->query_norm, layer->query_epsilon, cosine, sine, size, query);
        for (int64_t head = 0; head < layer->kv_heads; head++, key += size)
            turn(qkv + keys + head * size, layer->key_norm, layer->key_epsilon, cosine, sine, size, key);
        memcpy(value, qkv + values, layer->kv_heads * size * sizeof(float));
        value += layer->kv_heads * size;
    }
}

/* given [rows, hidden], cosine and sine [rows, head size] -> query [rows, heads, head size], key and value
   [rows, kv heads, head size]. room: (hidden + qkv width) numbers a row, for the rows at once. */
void before_attention(const Layer *layer, const float *given, const float *cosine, const float *sine, int64_t rows,
                      float *query, float *key, float *value, float *room) {
    int64_t asked = layer->heads * layer->head_size, kept = layer->kv_heads * layer->head_size;
    for (int64_t first = 0; first < rows; first += ROWS_AT_ONCE)
        some_before_attention(layer, given + first * layer->hidden, cosine + first * layer->head_size,
                              sine + first * layer->head_size, rows - first < ROWS_AT_ONCE ? rows - first : ROWS_AT_ONCE,
                              query + first * asked, key + first * kept, value + first * kept, room);
}

/* gate = up * gate / (1 + e^-gate) */
static void swish(float *restrict gate, const float *restrict up, int64_t count) {
    float power[EXPONENTIALS];
    for (int64_t first = 0; first < count; first += EXPONENTIALS, gate += EXPONENTIALS, up += EXPONENTIALS) {
        int some = count - first < EXPONENTIALS ? count - first : EXPONENTIALS;
        for (int at = 0; at < some; at++)
            power[at] = -gate[at];
        exponentials(power, some);
        for (int at = 0; at < some; at++)
            gate[at] = up[at] * gate[at] / (1.0f + power[at]);
    }
}

static void some_after_attention(const Layer *layer, const float *given, const float *mixed, int64_t rows, float *out,
                                 float *room) {
    int64_t hidden = layer->hidden, inner = layer->inner, mixed_size = layer->heads * layer->head_size;
    float *gate = room + rows * hidden, *up = gate + rows * inner;
    multiply((Rows){mixed, mixed_size}, rows, mixed_size, layer->out, hidden, (Rows){given, hidden}, out);
    rms_norm(out, layer->second_norm, room, rows, hidden, layer->second_epsilon, 0);
    multiply((Rows){room, hidden}, rows, hidden, layer->gate, inner, (Rows){0, 0}, gate);
    multiply((Rows){room, hidden}, rows, hidden, layer->up, inner, (Rows){0, 0}, up);
    swish(gate, up, rows * inner);
    multiply((Rows){gate, inner}, rows, inner, layer->down, hidden, (Rows){out, hidden}, out);
}

/* given [rows, hidden], mixed [rows, heads, head size] -> out [rows, hidden].
   room: (hidden + 2 * inner) numbers a row, for the rows at once. */
void after_attention(const Layer *layer, const float *given, const float *mixed, int64_t rows, float *out, float *room) {
    int64_t hidden = layer->hidden, mixed_size = layer->heads * layer->head_size;
    for (int64_t first = 0; first < rows; first += ROWS_AT_ONCE)
        some_after_attention(layer, given + first * hidden, mixed + first * mixed_size,
                             rows - first < ROWS_AT_ONCE ? rows - first : ROWS_AT_ONCE, out + first * hidden, room);
}
