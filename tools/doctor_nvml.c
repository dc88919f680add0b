/* What NVIDIA's management library tells of GPUs.  It comes with the driver, so it is loaded where it is there; its calls and
 * their numbers are those of its documented interface, which stays as it is from release to release. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "tools/doctor_impl.h"

enum { NVML_OK = 0, NVML_REMOTE_GPU = 0, NVML_REMOTE_SWITCH = 2, NVML_UNCORRECTED = 1, NVML_SINCE_LOAD = 0 };

struct nvml_pci {
	char address_short[16];
	unsigned domain, bus, device, id, subsystem;
	char address[32];
};
struct nvml_memory {
	unsigned long long total, free, used;
};
typedef void *gpu_handle;

/* Each as NVML names it; what an old library lacks is NULL. */
struct nvml {
	void *library;
	int (*init)(void);
	int (*shutdown)(void);
	const char *(*error_text)(int error);
	int (*driver_version)(char *text, unsigned size);
	int (*cuda_version)(int *version);
	int (*count)(unsigned *count);
	int (*handle)(unsigned index, gpu_handle *gpu);
	int (*name)(gpu_handle gpu, char *text, unsigned size);
	int (*pci)(gpu_handle gpu, struct nvml_pci *pci);
	int (*memory)(gpu_handle gpu, struct nvml_memory *memory);
	int (*capability)(gpu_handle gpu, int *major, int *minor);
	int (*ecc_mode)(gpu_handle gpu, unsigned *current, unsigned *pending);
	int (*ecc_errors)(gpu_handle gpu, int kind, int counter, unsigned long long *count);
	int (*remapped)(gpu_handle gpu, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed);
	int (*persistence)(gpu_handle gpu, unsigned *on);
	int (*throttle)(gpu_handle gpu, unsigned long long *reasons);
	int (*power)(gpu_handle gpu, unsigned *milliwatts);
	int (*power_default)(gpu_handle gpu, unsigned *milliwatts);
	int (*mig)(gpu_handle gpu, unsigned *current, unsigned *pending);
	int (*link_state)(gpu_handle gpu, unsigned link, unsigned *up);
	int (*link_remote)(gpu_handle gpu, unsigned link, unsigned *kind);
};

static void load(struct nvml *nvml)
{
	const struct {
		const char *name;
		void *to;
	} calls[] = {
		{"nvmlInit_v2", &nvml->init},
		{"nvmlShutdown", &nvml->shutdown},
		{"nvmlErrorString", &nvml->error_text},
		{"nvmlSystemGetDriverVersion", &nvml->driver_version},
		{"nvmlSystemGetCudaDriverVersion", &nvml->cuda_version},
		{"nvmlDeviceGetCount_v2", &nvml->count},
		{"nvmlDeviceGetHandleByIndex_v2", &nvml->handle},
		{"nvmlDeviceGetName", &nvml->name},
		{"nvmlDeviceGetPciInfo_v3", &nvml->pci},
		{"nvmlDeviceGetMemoryInfo", &nvml->memory},
		{"nvmlDeviceGetCudaComputeCapability", &nvml->capability},
		{"nvmlDeviceGetEccMode", &nvml->ecc_mode},
		{"nvmlDeviceGetTotalEccErrors", &nvml->ecc_errors},
		{"nvmlDeviceGetRemappedRows", &nvml->remapped},
		{"nvmlDeviceGetPersistenceMode", &nvml->persistence},
		{"nvmlDeviceGetCurrentClocksThrottleReasons", &nvml->throttle},
		{"nvmlDeviceGetPowerManagementLimit", &nvml->power},
		{"nvmlDeviceGetPowerManagementDefaultLimit", &nvml->power_default},
		{"nvmlDeviceGetMigMode", &nvml->mig},
		{"nvmlDeviceGetNvLinkState", &nvml->link_state},
		{"nvmlDeviceGetNvLinkRemoteDeviceType", &nvml->link_remote},
	};
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		void *call = dlsym(nvml->library, calls[i].name);
		memcpy(calls[i].to, &call, sizeof(call)); /* a pointer to a function, which C does not let us cast */
	}
}

static enum doctor_known known(unsigned value)
{
	return value ? DOCTOR_YES : DOCTOR_NO;
}

static void read_health(const struct nvml *n, gpu_handle handle, struct doctor_gpu *gpu)
{
	unsigned on = 0, pending = 0, corrected = 0, uncorrected = 0, failed = 0;
	unsigned long long count = 0;
	if (n->ecc_mode && n->ecc_mode(handle, &on, &pending) == NVML_OK)
		gpu->ecc = known(on);
	if (n->ecc_errors && n->ecc_errors(handle, NVML_UNCORRECTED, NVML_SINCE_LOAD, &count) == NVML_OK)
		gpu->ecc_uncorrected = count;
	if (n->remapped && n->remapped(handle, &corrected, &uncorrected, &pending, &failed) == NVML_OK) {
		gpu->remap_pending = known(pending);
		gpu->remap_failed = known(failed);
	}
	if (n->persistence && n->persistence(handle, &on) == NVML_OK)
		gpu->persistence = known(on);
	if (n->mig && n->mig(handle, &on, &pending) == NVML_OK)
		gpu->mig = known(on);
}

static void read_speed(const struct nvml *n, gpu_handle handle, struct doctor_gpu *gpu)
{
	unsigned limit = 0, usual = 0;
	unsigned long long reasons = 0;
	if (n->throttle && n->throttle(handle, &reasons) == NVML_OK)
		gpu->throttle = reasons;
	if (n->power && n->power(handle, &limit) == NVML_OK)
		gpu->power_mw = limit;
	if (n->power_default && n->power_default(handle, &usual) == NVML_OK)
		gpu->power_default_mw = usual;
}

static void read_links(const struct nvml *n, gpu_handle handle, struct doctor_gpu *gpu)
{
	for (unsigned link = 0, up = 0, kind; n->link_state && link < DOCTOR_LINKS_MAX; link++) {
		if (n->link_state(handle, link, &up) != NVML_OK)
			continue;
		if (!up)
			gpu->links_down[gpu->link_count - gpu->link_up] = link;
		gpu->link_count++;
		if (!up)
			continue;
		gpu->link_up++;
		bool told = n->link_remote && n->link_remote(handle, link, &kind) == NVML_OK;
		if (told && kind == NVML_REMOTE_SWITCH)
			gpu->link_switches++;
		else if (told && kind == NVML_REMOTE_GPU)
			gpu->link_gpus++;
		else
			gpu->link_others++;
	}
}

/* NVML's "00000000:19:00.0" is the bus's "0000:19:00.0". */
static struct doctor_gpu *gpu_at(struct doctor_facts *facts, const char *root, const struct nvml_pci *pci)
{
	char address[DOCTOR_ADDRESS_BYTES];
	snprintf(address, sizeof(address), "%04x:%02x:%02x.0", pci->domain & 0xffff, pci->bus & 0xff, pci->device & 0x1f);
	for (uint32_t i = 0; i < facts->gpu_count; i++)
		if (strcmp(facts->gpus[i].pci.address, address) == 0)
			return &facts->gpus[i];
	if (facts->gpu_count == DOCTOR_GPUS_MAX)
		return NULL;
	struct doctor_gpu *gpu = &facts->gpus[facts->gpu_count++];
	*gpu = (struct doctor_gpu){0};
	doctor_read_pci(root, address, &gpu->pci);
	return gpu;
}

static void read_gpu(const struct nvml *n, unsigned index, const char *root, struct doctor_facts *facts)
{
	gpu_handle handle;
	struct nvml_pci pci = {0};
	struct nvml_memory memory = {0};
	int major = 0, minor = 0;
	if (n->handle(index, &handle) != NVML_OK || n->pci(handle, &pci) != NVML_OK)
		return;
	struct doctor_gpu *gpu = gpu_at(facts, root, &pci);
	if (!gpu)
		return;
	gpu->by_driver = gpu->by_nvml = true;
	if (n->name)
		(void)n->name(handle, gpu->name, sizeof(gpu->name));
	if (n->memory && n->memory(handle, &memory) == NVML_OK)
		gpu->memory_bytes = memory.total;
	if (n->capability && n->capability(handle, &major, &minor) == NVML_OK)
		gpu->capability = major * 10 + minor;
	read_health(n, handle, gpu);
	read_speed(n, handle, gpu);
	read_links(n, handle, gpu);
}

static void read_all(const struct nvml *n, const char *root, struct doctor_facts *facts)
{
	unsigned count = 0;
	int version = 0;
	if (n->driver_version)
		(void)n->driver_version(facts->driver_version, sizeof(facts->driver_version));
	if (n->cuda_version && n->cuda_version(&version) == NVML_OK)
		facts->cuda_version = (uint32_t)version;
	if (n->count(&count) != NVML_OK)
		snprintf(facts->nvml_error, sizeof(facts->nvml_error), "it does not count GPUs");
	for (unsigned i = 0; i < count && i < DOCTOR_GPUS_MAX; i++)
		read_gpu(n, i, root, facts);
}

void doctor_read_nvml(const char *library, const char *root, struct doctor_facts *facts)
{
	struct nvml nvml = {.library = dlopen(library, RTLD_NOW | RTLD_LOCAL)};
	if (!nvml.library) {
		snprintf(facts->nvml_error, sizeof(facts->nvml_error), "not there");
		return;
	}
	load(&nvml);
	bool whole = nvml.init && nvml.shutdown && nvml.count && nvml.handle && nvml.pci;
	int error = whole ? nvml.init() : -1;
	if (error == NVML_OK) {
		read_all(&nvml, root, facts);
		(void)nvml.shutdown();
	} else {
		snprintf(facts->nvml_error, sizeof(facts->nvml_error), "%s",
			 !whole ? "it lacks calls" : nvml.error_text ? nvml.error_text(error) : "it does not start");
	}
	dlclose(nvml.library);
}
