/* NVIDIA's management library as far as inference/gpus.py asks it: GPU 1 is 37 % busy and holds 5 GB, GPU 0 is lost. */
#include <string.h>

typedef struct { unsigned int gpu, memory; } Utilization;
typedef struct { unsigned long long total, free, used; } Memory;

int nvmlInitWithFlags(unsigned int flags) { return 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    *device = (void *)(strcmp(uuid, "GPU-one") == 0 ? 2L : 1L);
    return 0;
}
int nvmlDeviceGetIndex(void *device, unsigned int *index) { *index = (unsigned int)((long)device - 1); return 0; }
int nvmlDeviceGetUtilizationRates(void *device, Utilization *rates) {
    rates->gpu = 37;
    return (long)device == 2L ? 0 : 15; /* NVML_ERROR_GPU_IS_LOST */
}
int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
    memory->used = 5000000000ULL;
    return (long)device == 2L ? 0 : 15;
}
const char *nvmlErrorString(int result) { return "GPU is lost"; }
