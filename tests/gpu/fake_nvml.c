/* A libnvidia-ml.so.1 whose GPUs are what a file says, read anew at each call, so that a test can change them while a node runs.

FAKE_NVML names the file. A line is one of:
    gpu UUID NAME TOTAL_BYTES USED_BYTES [FIELD=VALUE ...]    fields: util, temp, power (mW), lost=1, memory_error=CODE
    process UUID PID BYTES
    error FUNCTION CODE      what this function gives, e.g. nvmlDeviceGetPowerUsage 3
Only what pynvml's calls in easyremote.execution.measure need is here. A GPU's number is its place in the file. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID = 2, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, LOST = 15 };

typedef struct { char uuid[96], name[96]; unsigned long long total, used; unsigned util, temp, power, lost, memory_error; } Gpu;
typedef struct { char uuid[96]; unsigned pid; unsigned long long bytes; } Process;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } ProcessInfo;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { Gpu gpus[64]; int gpu_count; Process processes[256]; int process_count; int error; } State;

static int started;
static char handles[64][96]; /* a handle is the address of its GPU's uuid here */

static int load(State *state, const char *function) {
    memset(state, 0, sizeof *state);
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return DRIVER_NOT_LOADED;
    char line[1024];
    while (fgets(line, sizeof line, file)) {
        Gpu *gpu = &state->gpus[state->gpu_count];
        Process *process = &state->processes[state->process_count];
        char name[96];
        int code, read = 0;
        if (sscanf(line, "gpu %95s %95s %llu %llu%n", gpu->uuid, gpu->name, &gpu->total, &gpu->used, &read) == 4) {
            for (char *part = strtok(line + read, " \n"); part; part = strtok(NULL, " \n")) {
                sscanf(part, "util=%u", &gpu->util);
                sscanf(part, "temp=%u", &gpu->temp);
                sscanf(part, "power=%u", &gpu->power);
                sscanf(part, "lost=%u", &gpu->lost);
                sscanf(part, "memory_error=%u", &gpu->memory_error);
            }
            state->gpu_count++;
        } else if (sscanf(line, "process %95s %u %llu", process->uuid, &process->pid, &process->bytes) == 3) {
            state->process_count++;
        } else if (sscanf(line, "error %95s %d", name, &code) == 2 && strcmp(name, function) == 0) {
            state->error = code;
        }
    }
    fclose(file);
    return state->error;
}

/* Read the state, and find the GPU that a handle stands for. */
static int look(State *state, const char *function, const char *handle, Gpu **found) {
    if (!started) return UNINITIALIZED;
    int error = load(state, function);
    if (error) return error;
    for (int i = 0; i < state->gpu_count; i++)
        if (strcmp(state->gpus[i].uuid, handle) == 0) {
            *found = &state->gpus[i];
            return state->gpus[i].lost ? LOST : SUCCESS;
        }
    return LOST;
}

static int give_handle(const char *uuid, void **handle) {
    for (int i = 0; i < 64; i++)
        if (!*handles[i] || strcmp(handles[i], uuid) == 0) {
            strcpy(handles[i], uuid);
            *handle = handles[i];
            return SUCCESS;
        }
    return NOT_FOUND;
}

int nvmlInitWithFlags(unsigned flags) {
    State state;
    int error = load(&state, "nvmlInit");
    started = !error;
    return error;
}

int nvmlShutdown(void) { started = 0; return SUCCESS; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    State state;
    if (!started) return UNINITIALIZED;
    int error = load(&state, "nvmlDeviceGetCount");
    *count = state.gpu_count;
    return error;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    State state;
    int error = load(&state, "nvmlDeviceGetHandleByIndex");
    if (error) return error;
    if (index >= (unsigned)state.gpu_count) return INVALID;
    return state.gpus[index].lost ? LOST : give_handle(state.gpus[index].uuid, handle);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    State state;
    int error = load(&state, "nvmlDeviceGetHandleByUUID");
    if (error) return error;
    for (int i = 0; i < state.gpu_count; i++)
        if (strcmp(state.gpus[i].uuid, uuid) == 0) return state.gpus[i].lost ? LOST : give_handle(uuid, handle);
    return NOT_FOUND;
}

#define WITH_GPU(function, handle) State state; Gpu *gpu; int error = look(&state, function, handle, &gpu); if (error) return error

int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) {
    WITH_GPU("nvmlDeviceGetMemoryInfo", handle);
    memory->total = gpu->total;
    memory->used = gpu->used;
    memory->free = gpu->total - gpu->used;
    return gpu->memory_error;
}

static int give_text(char *buffer, unsigned size, const char *text) {
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return SUCCESS;
}

int nvmlDeviceGetName(void *handle, char *name, unsigned size) {
    WITH_GPU("nvmlDeviceGetName", handle);
    return give_text(name, size, gpu->name);
}

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned size) {
    WITH_GPU("nvmlDeviceGetUUID", handle);
    return give_text(uuid, size, gpu->uuid);
}

int nvmlDeviceGetUtilizationRates(void *handle, Utilization *rates) {
    WITH_GPU("nvmlDeviceGetUtilizationRates", handle);
    rates->gpu = gpu->util;
    rates->memory = 0;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *degrees) {
    WITH_GPU("nvmlDeviceGetTemperature", handle);
    *degrees = gpu->temp;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
    WITH_GPU("nvmlDeviceGetPowerUsage", handle);
    *milliwatts = gpu->power;
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, ProcessInfo *infos) {
    WITH_GPU("nvmlDeviceGetComputeRunningProcesses", handle);
    unsigned found = 0;
    for (int i = 0; i < state.process_count; i++) {
        if (strcmp(state.processes[i].uuid, gpu->uuid) != 0) continue;
        if (infos && found < *count) infos[found] = (ProcessInfo){state.processes[i].pid, state.processes[i].bytes, 0, 0};
        found++;
    }
    error = found > *count ? INSUFFICIENT_SIZE : SUCCESS;
    *count = found;
    return error;
}

const char *nvmlErrorString(int code) { return "an error of the fake"; }
