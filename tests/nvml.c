/* A libnvidia-ml.so.1 for tests: it answers from a text file, read again at every call.
 *
 * Built and described by tests/nvml.py. A line of the file is one word and pairs of KEY=VALUE:
 *
 *   driver version=580.00 init=9        init: error code of nvmlInit, 0 for none
 *   gpu uuid=GPU-a total=24000000000 used=8000000000 busy=13 ...
 *   process gpu=0 pid=2149 used=7000000000 kind=c
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API(type) __attribute__((visibility("default"))) type

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, TOO_SMALL = 7, NOT_LOADED = 9, LOST = 15 };
enum { MAX_GPUS = 16, MAX_PROCESSES = 256, MAX_WORD = 96 };

typedef unsigned int uint;
typedef unsigned long long ull;

/* Laid out as in nvml.h. */
typedef struct { ull total, free, used; } memory_v1;
typedef struct { uint version; ull total, reserved, free, used; } memory_v2;
typedef struct { uint gpu, memory; } rates;
typedef struct { uint pid; ull used; uint gpu_instance, compute_instance; } process_info;
typedef struct { char legacy[16]; uint domain, bus, device, id, subsystem; char text[32]; } pci_info;

typedef struct {
    char uuid[MAX_WORD], name[MAX_WORD], bus[MAX_WORD];
    ull total, used, reserved;
    long busy, celsius, milliwatts, lost, mig, old, hang_s, secret, drawing;
} gpu;

typedef struct { int gpu; uint pid; ull used; char kind; } process;

typedef struct {
    char version[MAX_WORD];
    long init, hang_s;
    gpu gpus[MAX_GPUS];
    int num_gpus;
    process processes[MAX_PROCESSES];
    int num_processes;
} world;

static int starts;

static void take_gpu(gpu *one, const char *key, const char *value) {
    const long number = strtol(value, NULL, 10);
    if (!strcmp(key, "uuid")) snprintf(one->uuid, MAX_WORD, "%s", value);
    else if (!strcmp(key, "name")) snprintf(one->name, MAX_WORD, "%s", value);
    else if (!strcmp(key, "bus")) snprintf(one->bus, MAX_WORD, "%s", value);
    else if (!strcmp(key, "total")) one->total = strtoull(value, NULL, 10);
    else if (!strcmp(key, "used")) one->used = strtoull(value, NULL, 10);
    else if (!strcmp(key, "reserved")) one->reserved = strtoull(value, NULL, 10);
    else if (!strcmp(key, "busy")) one->busy = number;
    else if (!strcmp(key, "celsius")) one->celsius = number;
    else if (!strcmp(key, "milliwatts")) one->milliwatts = number;
    else if (!strcmp(key, "lost")) one->lost = number;
    else if (!strcmp(key, "mig")) one->mig = number;
    else if (!strcmp(key, "old")) one->old = number;
    else if (!strcmp(key, "hang_s")) one->hang_s = number;
    else if (!strcmp(key, "secret")) one->secret = number;
    else if (!strcmp(key, "drawing")) one->drawing = number;
    else { fprintf(stderr, "tests/nvml.c: unknown key `%s`\n", key); abort(); }
}

static void take(world *w, const char *kind, int number, const char *key, const char *value) {
    if (!strcmp(kind, "driver")) {
        if (!strcmp(key, "version")) snprintf(w->version, MAX_WORD, "%s", value);
        if (!strcmp(key, "init")) w->init = strtol(value, NULL, 10);
        if (!strcmp(key, "hang_s")) w->hang_s = strtol(value, NULL, 10);
    } else if (!strcmp(kind, "gpu")) {
        take_gpu(&w->gpus[number], key, value);
    } else {
        process *one = &w->processes[number];
        if (!strcmp(key, "gpu")) one->gpu = atoi(value);
        if (!strcmp(key, "pid")) one->pid = (uint)strtoul(value, NULL, 10);
        if (!strcmp(key, "used")) one->used = strcmp(value, "none") ? strtoull(value, NULL, 10) : ~0ULL;
        if (!strcmp(key, "kind")) one->kind = value[0];
    }
}

/* Several threads may call: each reads into a world of its own. */
static void look(world *w) {
    char line[1024];
    memset(w, 0, sizeof *w);
    w->init = NOT_LOADED;
    const char *path = getenv("TESTS_NVML");
    FILE *file = path ? fopen(path, "re") : NULL;
    if (!file) return;
    w->init = OK;
    while (fgets(line, sizeof line, file)) {
        char *rest = NULL;
        const char *kind = strtok_r(line, " \n", &rest);
        if (!kind) continue;
        int number = 0;
        if (!strcmp(kind, "gpu")) number = w->num_gpus++;
        if (!strcmp(kind, "process")) number = w->num_processes++;
        if (number >= (kind[0] == 'g' ? MAX_GPUS : MAX_PROCESSES)) abort();
        if (kind[0] == 'g') w->gpus[number].celsius = 40;
        for (char *word; (word = strtok_r(NULL, " \n", &rest));) {
            char *equals = strchr(word, '=');
            if (!equals) abort();
            *equals = 0;
            take(w, kind, number, word, equals + 1);
        }
    }
    fclose(file);
}

/* A call hangs until the file says otherwise, at most that long. */
static void hang(int number) {
    world w;
    for (long waited_ms = 0;; waited_ms += 10) {
        look(&w);
        const long limit_s = number < 0 ? w.hang_s : w.gpus[number].hang_s;
        if (waited_ms >= limit_s * 1000) return;
        usleep(10000);
    }
}

static int find(const void *handle, world *w, gpu **one) {
    if (!starts) return UNINITIALIZED;
    const long number = (long)handle - 1;
    if (number < 0 || number >= MAX_GPUS) return INVALID;
    hang((int)number);
    look(w);
    if (number >= w->num_gpus) return LOST;
    *one = &w->gpus[number];
    return (*one)->lost ? LOST : OK;
}

#define FIND                                          \
    world w;                                          \
    gpu *one;                                         \
    const int failed = find(handle, &w, &one);        \
    if (failed) return failed

API(int) nvmlInit_v2(void) {
    world w;
    hang(-1);
    look(&w);
    if (w.init) return (int)w.init;
    starts++;
    return OK;
}

API(int) nvmlInitWithFlags(uint flags) { (void)flags; return nvmlInit_v2(); }

API(int) nvmlShutdown(void) {
    if (!starts) return UNINITIALIZED;
    starts--;
    return OK;
}

API(const char *) nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : "an error"; }

API(int) nvmlSystemGetDriverVersion(char *text, uint size) {
    world w;
    look(&w);
    snprintf(text, size, "%s", w.version);
    return OK;
}

API(int) nvmlDeviceGetCount_v2(uint *count) {
    world w;
    if (!starts) return UNINITIALIZED;
    look(&w);
    *count = (uint)w.num_gpus;
    return OK;
}

API(int) nvmlDeviceGetHandleByIndex_v2(uint index, void **handle) {
    world w;
    gpu *one;
    *handle = (void *)(long)(index + 1);
    return find(*handle, &w, &one);
}

API(int) nvmlDeviceGetUUID(void *handle, char *text, uint size) {
    FIND;
    snprintf(text, size, "%s", one->uuid);
    return OK;
}

API(int) nvmlDeviceGetName(void *handle, char *text, uint size) {
    FIND;
    snprintf(text, size, "%s", one->name);
    return OK;
}

API(int) nvmlDeviceGetPciInfo_v3(void *handle, pci_info *info) {
    FIND;
    memset(info, 0, sizeof *info);
    snprintf(info->text, sizeof info->text, "%.31s", one->bus);
    return OK;
}

API(int) nvmlDeviceGetMigMode(void *handle, uint *current, uint *pending) {
    FIND;
    if (one->old) return NOT_SUPPORTED;
    *current = *pending = (uint)one->mig;
    return OK;
}

API(int) nvmlDeviceGetMemoryInfo(void *handle, memory_v1 *info) {
    FIND;
    /* The old record counts as used what the driver keeps for itself. */
    *info = (memory_v1){one->total, one->total - one->used - one->reserved, one->used + one->reserved};
    return OK;
}

API(int) nvmlDeviceGetMemoryInfo_v2(void *handle, memory_v2 *info) {
    FIND;
    if (one->old) return INVALID;
    info->total = one->total;
    info->reserved = one->reserved;
    info->used = one->used;
    info->free = one->total - one->used - one->reserved;
    return OK;
}

API(int) nvmlDeviceGetUtilizationRates(void *handle, rates *info) {
    FIND;
    if (one->mig || one->busy < 0) return NOT_SUPPORTED;
    *info = (rates){(uint)one->busy, 0};
    return OK;
}

API(int) nvmlDeviceGetTemperature(void *handle, int sensor, uint *celsius) {
    FIND;
    (void)sensor;
    *celsius = (uint)one->celsius;
    return OK;
}

API(int) nvmlDeviceGetPowerUsage(void *handle, uint *milliwatts) {
    FIND;
    if (one->old) return NOT_SUPPORTED;
    *milliwatts = (uint)one->milliwatts;
    return OK;
}

static int list(void *handle, uint *count, process_info *found, char kind) {
    FIND;
    if (one->secret || (kind == 'g' && one->drawing < 0)) return NOT_SUPPORTED;
    uint number = 0;
    for (int i = 0; i < w.num_processes; i++) {
        const process *p = &w.processes[i];
        if (p->gpu != (int)((long)handle - 1) || p->kind != kind) continue;
        if (found && number < *count) found[number] = (process_info){p->pid, p->used, ~0U, ~0U};
        number++;
    }
    const int fits = number == 0 || (found && number <= *count);
    *count = number;
    return fits ? OK : TOO_SMALL;
}

API(int) nvmlDeviceGetComputeRunningProcesses_v3(void *handle, uint *count, process_info *found) {
    return list(handle, count, found, 'c');
}

API(int) nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, uint *count, process_info *found) {
    return list(handle, count, found, 'g');
}
