/* A stand-in for libnvidia-ml.so.1 that real pynvml loads: what batchopt.machine.nvml reads, no more.
 *
 * What it answers is read anew at every call from the file that $FAKE_NVML names, one
 * "key=value" a line. Keys of a device begin with "gpu0." or, for a MIG device, "gpu0.mig1.".
 * A value that is not there is "not supported", as on a card that lacks it. An error code is
 * injected with "error.FUNCTION=CODE" (the library), "gpu0.error.FUNCTION=CODE" (one function of
 * one device), "gpu0.error=CODE" (all of that device) or "error=CODE" (everything: the driver died).
 * "hang.FUNCTION=1" or "hang=1" lets a call of a device, or of the library, wait until the key is
 * gone; the file that $FAKE_NVML names with ".hangs" behind it says that one waits.
 * Without the file no driver is loaded. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, VERSION_MISMATCH = 25 };
enum { MIG_SLOTS = 7, CARDS = 16, VALUE = 512 };

typedef unsigned long long u64;
typedef struct { u64 total, free, used; } Memory;
typedef struct { unsigned version; u64 total, reserved, free, used; } MemoryV2;
typedef struct { unsigned pid; u64 used; unsigned gpu_instance, compute_instance; } Process;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned version, sensor; int celsius; } Temperature;
typedef struct { char legacy[16]; unsigned numbers[5]; char bus_id[32]; } PciInfo;

static int opened;

/* A handle is 1 + 8 x card + (0 for the card itself, 1 + k for its MIG device k). */
static void *handle_of(int card, int mig) { return (void *)(intptr_t)(1 + 8 * card + mig + 1); }

static void key_of(void *handle, const char *name, char *key) {
    int number = (int)(intptr_t)handle - 1, card = number / 8, mig = number % 8 - 1;
    if (mig < 0) snprintf(key, VALUE, "gpu%d.%s", card, name);
    else snprintf(key, VALUE, "gpu%d.mig%d.%s", card, mig, name);
}

static int look_up(const char *key, char *value) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[VALUE];
    size_t length = strlen(key);
    int found = 0;
    while (file && !found && fgets(line, sizeof line, file))
        if (!strncmp(line, key, length) && line[length] == '=') {
            line[strcspn(line, "\n")] = 0;
            strcpy(value, line + length + 1);
            found = 1;
        }
    if (file) fclose(file);
    return found;
}

static int hangs(const char *function) {
    char key[VALUE], value[VALUE];
    snprintf(key, sizeof key, "hang.%s", function);
    return look_up("hang", value) || look_up(key, value);
}

static void hang(const char *function) {
    char path[VALUE];
    if (!hangs(function)) return;
    snprintf(path, sizeof path, "%.500s.hangs", getenv("FAKE_NVML"));
    FILE *file = fopen(path, "w");
    if (file) fclose(file);
    while (hangs(function)) usleep(10000);
}

static int library_error(const char *function) {
    char key[VALUE], value[VALUE];
    hang(function);
    if (look_up("error", value)) return atoi(value);
    snprintf(key, sizeof key, "error.%s", function);
    if (look_up(key, value)) return atoi(value);
    return opened ? 0 : UNINITIALIZED;
}

static int device_error(void *handle, const char *function) {
    char name[VALUE], key[VALUE], value[VALUE];
    int code = library_error(function);
    if (code) return code;
    key_of(handle, "error", key);
    if (look_up(key, value)) return atoi(value);
    snprintf(name, sizeof name, "error.%s", function);
    key_of(handle, name, key);
    return look_up(key, value) ? atoi(value) : 0;
}

static int text(void *handle, const char *function, const char *name, char *value) {
    char key[VALUE];
    int code = device_error(handle, function);
    if (code) return code;
    key_of(handle, name, key);
    return look_up(key, value) ? 0 : NOT_SUPPORTED;
}

static int number(void *handle, const char *function, const char *name, u64 *out) {
    char value[VALUE];
    int code = text(handle, function, name, value);
    if (!code) *out = strtoull(value, NULL, 0);
    return code;
}

/* Library */
int nvmlInitWithFlags(unsigned flags) {
    char value[VALUE];
    (void)flags;
    if (!look_up("driver", value)) return DRIVER_NOT_LOADED;
    opened++;
    int code = library_error(__func__);
    if (code) opened--;
    return code;
}
int nvmlShutdown(void) { hang(__func__); return opened ? (opened--, 0) : UNINITIALIZED; }
const char *nvmlErrorString(int code) { (void)code; return "an error of the fake NVML"; }
int nvmlSystemGetDriverVersion(char *out, unsigned length) {
    char value[VALUE] = "";
    int code = library_error(__func__);
    if (!code && look_up("driver", value)) snprintf(out, length, "%s", value);
    return code;
}

/* Handles */
static int exists(void *handle) {
    char key[VALUE], value[VALUE];
    key_of(handle, "uuid", key);
    return look_up(key, value);
}
int nvmlDeviceGetCount_v2(unsigned *count) {
    int code = library_error(__func__);
    for (*count = 0; !code && exists(handle_of(*count, -1)); ++*count) {}
    return code;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
    *out = handle_of(index, -1);
    return exists(*out) ? device_error(*out, __func__) : INVALID_ARGUMENT;
}
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **out) {
    int code = device_error(handle, __func__);
    *out = (char *)handle + 1 + index;
    return code ? code : exists(*out) ? 0 : NOT_FOUND;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **out) {
    char key[VALUE], value[VALUE];
    int code = library_error(__func__);
    for (int card = 0; !code && card < CARDS; card++)
        for (int mig = -1; mig < MIG_SLOTS; mig++) {
            key_of(*out = handle_of(card, mig), "uuid", key);
            if (look_up(key, value) && !strcmp(value, uuid)) return device_error(*out, __func__);
        }
    return code ? code : NOT_FOUND;
}

/* What a device is */
#define TEXT(function, name) \
    int function(void *handle, char *out, unsigned length) { \
        char value[VALUE]; \
        int code = text(handle, __func__, name, value); \
        if (!code) snprintf(out, length, "%s", value); \
        return code; \
    }
#define NUMBER(function, name, type) \
    int function(void *handle, type *out) { \
        u64 value; \
        int code = number(handle, __func__, name, &value); \
        if (!code) *out = (type)value; \
        return code; \
    }
TEXT(nvmlDeviceGetUUID, "uuid")
TEXT(nvmlDeviceGetName, "name")
NUMBER(nvmlDeviceGetGpuInstanceId, "gpu_instance", unsigned)
NUMBER(nvmlDeviceGetComputeInstanceId, "compute_instance", unsigned)
int nvmlDeviceGetPciInfo_v3(void *handle, PciInfo *out) {
    char value[VALUE];
    int code = text(handle, __func__, "pci_bus_id", value);
    if (!code) snprintf(out->bus_id, sizeof out->bus_id, "%.31s", value);
    return code;
}
int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    u64 value;
    int code = number(handle, __func__, "mig_mode", &value);
    if (!code) *current = *pending = (unsigned)value;
    return code;
}
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    char value[VALUE];
    int code = text(handle, __func__, "compute_capability", value);
    return code ? code : sscanf(value, "%d.%d", major, minor) == 2 ? 0 : INVALID_ARGUMENT;
}
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *out) {
    *out = MIG_SLOTS;
    return device_error(handle, __func__);
}

/* What a device reads now */
NUMBER(nvmlDeviceGetPowerUsage, "power_mw", unsigned)
NUMBER(nvmlDeviceGetTotalEnergyConsumption, "energy_mj", u64)
NUMBER(nvmlDeviceGetCurrentClocksEventReasons, "throttle", u64)
NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, "throttle", u64)

static int memory(void *handle, const char *function, u64 *total, u64 *reserved, u64 *used) {
    int code = number(handle, function, "total", total);
    if (!code) code = number(handle, function, "used", used);
    if (!code && number(handle, function, "reserved", reserved)) *reserved = 0;
    return code;
}
int nvmlDeviceGetMemoryInfo(void *handle, Memory *out) {
    u64 reserved;
    int code = memory(handle, __func__, &out->total, &reserved, &out->used);
    if (!code) out->used += reserved, out->free = out->total - out->used;
    return code;
}
int nvmlDeviceGetMemoryInfo_v2(void *handle, MemoryV2 *out) {
    if (out->version != (sizeof *out | 2 << 24)) return VERSION_MISMATCH;
    int code = memory(handle, __func__, &out->total, &out->reserved, &out->used);
    if (!code) out->free = out->total - out->reserved - out->used;
    return code;
}
int nvmlDeviceGetUtilizationRates(void *handle, Utilization *out) {
    u64 value;
    int code = number(handle, __func__, "utilization", &value);
    if (!code) out->gpu = (unsigned)value, out->memory = 0;
    return code;
}
int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *out) {
    u64 value;
    int code = number(handle, __func__, "temperature", &value);
    if (!code) *out = (unsigned)value;
    return sensor ? INVALID_ARGUMENT : code;
}
int nvmlDeviceGetTemperatureV(void *handle, Temperature *out) {
    u64 value;
    if (out->version != (sizeof *out | 1 << 24)) return VERSION_MISMATCH;
    int code = number(handle, __func__, "temperature", &value);
    if (!code) out->celsius = (int)value;
    return out->sensor ? INVALID_ARGUMENT : code;
}

/* "processes=100:5000,200:na": PID and bytes of each; na is how NVML says "not available".
 * "graphics" likewise. */
static int processes(void *handle, const char *function, const char *name, unsigned *count,
                     Process *out) {
    char value[VALUE];
    unsigned room = out ? *count : 0;
    int code = text(handle, function, name, value);
    if (code) return code;
    *count = 0;
    for (char *item = strtok(value, ","); item; item = strtok(NULL, ","), ++*count)
        if (*count < room) {
            const char *used = strchr(item, ':') + 1;
            out[*count] = (Process){.pid = (unsigned)atoi(item)};
            out[*count].used = strcmp(used, "na") ? strtoull(used, NULL, 0) : ~0ULL;
        }
    return *count > room ? INSUFFICIENT_SIZE : 0;
}
#define PROCESSES(function, name) \
    int function(void *handle, unsigned *count, Process *out) { \
        return processes(handle, __func__, name, count, out); \
    }
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, "processes")
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, "processes")
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, "graphics")
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, "graphics")
