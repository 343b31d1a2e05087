/* What the C files share. */

#include <math.h>
#include <stdint.h>

#if defined __AVX512F__
#define LANES 16 /* of a register */
#define SUMS 16 /* registers that a loop keeps its sums in */
#elif defined __AVX__
#define LANES 8
#define SUMS 12
#elif defined __aarch64__
#define LANES 4
#define SUMS 24
#else
#define LANES 4
#define SUMS 8
#endif

typedef float vec __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));

#define HEADS (KV_HEADS * GROUP)

/* Correct to the last bits of a float (Cephes); written so that compilers make vectors of it, which they do as long as
   it is a function of its own. */
static __attribute__((noinline)) void exponentials(float *numbers, int count) {
    for (int at = 0; at < count; at++) {
        float given = numbers[at] < -87.0f ? -87.0f : numbers[at];
        given = given > 87.0f ? 87.0f : given;
        float power = nearbyintf(given * 1.44269504f);
        float rest = given - power * 0.693359375f + power * 2.12194440e-4f;
        float sum = 1.9875691500e-4f;
        sum = sum * rest + 1.3981999507e-3f;
        sum = sum * rest + 8.3334519073e-3f;
        sum = sum * rest + 4.1665795894e-2f;
        sum = sum * rest + 1.6666665459e-1f;
        sum = sum * rest + 5.0000001201e-1f;
        sum = sum * rest * rest + rest + 1.0f;
        union { int32_t bits; float number; } scale = {.bits = ((int32_t)power + 127) << 23};
        numbers[at] = sum * scale.number;
    }
}

void rms_norm(const float *given, const float *weight, float *out, int64_t rows, int64_t size, float epsilon, float more);
