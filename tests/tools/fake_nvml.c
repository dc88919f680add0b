#include "fake_nvml.h"

#include <stdio.h>
#include <string.h>

enum { OK = 0, NOT_SUPPORTED = 3, MISMATCH = 18 };

struct fake_nvml fake_nvml;

typedef struct fake_gpu *handle;

/* As the library declares them; nobody else calls them. */
int nvmlInit_v2(void);
int nvmlShutdown(void);
const char *nvmlErrorString(int error);
int nvmlSystemGetDriverVersion(char *text, unsigned size);
int nvmlSystemGetCudaDriverVersion(int *version);
int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, handle *gpu);
int nvmlDeviceGetName(handle gpu, char *text, unsigned size);
int nvmlDeviceGetMemoryInfo(handle gpu, unsigned long long memory[3]);
int nvmlDeviceGetCudaComputeCapability(handle gpu, int *major, int *minor);
int nvmlDeviceGetEccMode(handle gpu, unsigned *current, unsigned *pending);
int nvmlDeviceGetTotalEccErrors(handle gpu, int kind, int counter, unsigned long long *count);
int nvmlDeviceGetRemappedRows(handle gpu, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed);
int nvmlDeviceGetPersistenceMode(handle gpu, unsigned *on);
int nvmlDeviceGetCurrentClocksThrottleReasons(handle gpu, unsigned long long *reasons);
int nvmlDeviceGetPowerManagementLimit(handle gpu, unsigned *milliwatts);
int nvmlDeviceGetPowerManagementDefaultLimit(handle gpu, unsigned *milliwatts);
int nvmlDeviceGetMigMode(handle gpu, unsigned *current, unsigned *pending);
int nvmlDeviceGetNvLinkState(handle gpu, unsigned link, unsigned *up);
int nvmlDeviceGetNvLinkRemoteDeviceType(handle gpu, unsigned link, unsigned *kind);

struct pci_info {
	char address_short[16];
	unsigned domain, bus, device, id, subsystem;
	char address[32];
};
int nvmlDeviceGetPciInfo_v3(handle gpu, struct pci_info *pci);

int nvmlInit_v2(void)
{
	fake_nvml.opened += fake_nvml.init_error == OK;
	return fake_nvml.init_error;
}

int nvmlShutdown(void)
{
	fake_nvml.opened--;
	return OK;
}

const char *nvmlErrorString(int error)
{
	return error == MISMATCH ? "Driver/library version mismatch" : "Unknown Error";
}

int nvmlSystemGetDriverVersion(char *text, unsigned size)
{
	snprintf(text, size, "%s", fake_nvml.driver);
	return OK;
}

int nvmlSystemGetCudaDriverVersion(int *version)
{
	*version = fake_nvml.cuda;
	return OK;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
	*count = fake_nvml.gpu_count;
	return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, handle *gpu)
{
	*gpu = &fake_nvml.gpus[index];
	return OK;
}

int nvmlDeviceGetName(handle gpu, char *text, unsigned size)
{
	snprintf(text, size, "%s", gpu->name);
	return OK;
}

int nvmlDeviceGetPciInfo_v3(handle gpu, struct pci_info *pci)
{
	*pci = (struct pci_info){.domain = gpu->domain, .bus = gpu->bus};
	snprintf(pci->address, sizeof(pci->address), "%08X:%02X:00.0", gpu->domain, gpu->bus);
	return OK;
}

int nvmlDeviceGetMemoryInfo(handle gpu, unsigned long long memory[3])
{
	memory[0] = memory[1] = gpu->memory_bytes;
	memory[2] = 0;
	return OK;
}

int nvmlDeviceGetCudaComputeCapability(handle gpu, int *major, int *minor)
{
	*major = gpu->major;
	*minor = gpu->minor;
	return OK;
}

int nvmlDeviceGetEccMode(handle gpu, unsigned *current, unsigned *pending)
{
	*current = *pending = gpu->ecc;
	return OK;
}

/* Only what was not corrected since the driver was loaded. */
int nvmlDeviceGetTotalEccErrors(handle gpu, int kind, int counter, unsigned long long *count)
{
	*count = kind == 1 && counter == 0 ? gpu->ecc_uncorrected : 77;
	return OK;
}

int nvmlDeviceGetRemappedRows(handle gpu, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed)
{
	*corrected = *uncorrected = 5;
	*pending = gpu->remap_pending;
	*failed = gpu->remap_failed;
	return OK;
}

int nvmlDeviceGetPersistenceMode(handle gpu, unsigned *on)
{
	*on = gpu->persistence;
	return OK;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(handle gpu, unsigned long long *reasons)
{
	*reasons = gpu->throttle;
	return OK;
}

int nvmlDeviceGetPowerManagementLimit(handle gpu, unsigned *milliwatts)
{
	*milliwatts = gpu->power_mw;
	return OK;
}

int nvmlDeviceGetPowerManagementDefaultLimit(handle gpu, unsigned *milliwatts)
{
	*milliwatts = gpu->power_default_mw;
	return OK;
}

int nvmlDeviceGetMigMode(handle gpu, unsigned *current, unsigned *pending)
{
	*current = *pending = gpu->mig;
	return OK;
}

int nvmlDeviceGetNvLinkState(handle gpu, unsigned link, unsigned *up)
{
	if (link >= gpu->link_count)
		return NOT_SUPPORTED;
	*up = !(gpu->links_down >> link & 1);
	return OK;
}

int nvmlDeviceGetNvLinkRemoteDeviceType(handle gpu, unsigned link, unsigned *kind)
{
	*kind = gpu->link_kind;
	return link < gpu->link_count ? OK : NOT_SUPPORTED;
}
