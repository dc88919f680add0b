/* GPUs as the bus and the driver show them; the rest is NVML's (tools/doctor_nvml.c). */
#include <stdio.h>
#include <string.h>

#include "tools/doctor_impl.h"

enum { VENDOR_NVIDIA = 0x10de, CLASS_DISPLAY = 0x03 };

/* "Model: \t\t NVIDIA H100 80GB HBM3" */
static void read_model(const char *root, struct doctor_gpu *gpu)
{
	char text[TREE_TEXT_MAX];
	gpu->by_driver = tree_text(root, text, sizeof(text), "/proc/driver/nvidia/gpus/%s/information", gpu->pci.address);
	char *model = gpu->by_driver ? strstr(text, "Model:") : NULL;
	if (!model)
		return;
	model += strlen("Model:");
	model += strspn(model, " \t");
	model[strcspn(model, "\n")] = 0;
	snprintf(gpu->name, sizeof(gpu->name), "%.*s", (int)sizeof(gpu->name) - 1, model);
}

static void add_gpu(const char *root, const char *address, struct doctor_facts *facts)
{
	if (facts->gpu_count == DOCTOR_GPUS_MAX) {
		facts->left_out++;
		return;
	}
	struct doctor_gpu *gpu = &facts->gpus[facts->gpu_count++];
	*gpu = (struct doctor_gpu){0};
	doctor_read_pci(root, address, &gpu->pci);
	read_model(root, gpu);
}

/* "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build …" */
static void read_driver(const char *root, struct doctor_facts *facts)
{
	char text[TREE_TEXT_MAX];
	facts->driver = tree_text(root, text, sizeof(text), "/proc/driver/nvidia/version");
	facts->driver_open = strstr(text, "Open Kernel Module") != NULL;
	text[strcspn(text, "\n")] = 0;
	char *rest = NULL;
	for (char *word = strtok_r(text, " \t", &rest); word; word = strtok_r(NULL, " \t", &rest)) {
		unsigned major, minor;
		if (sscanf(word, "%u.%u", &major, &minor) != 2)
			continue;
		snprintf(facts->driver_version, sizeof(facts->driver_version), "%.*s", (int)sizeof(facts->driver_version) - 1, word);
		break;
	}
}

void doctor_read_gpus(const char *root, struct doctor_facts *facts)
{
	struct tree_names devices;
	tree_list(root, &devices, "/sys/bus/pci/devices");
	for (size_t i = 0; i < devices.count; i++) {
		const char *address = devices.names[i];
		int64_t class_code = tree_number(root, 0, "/sys/bus/pci/devices/%s/class", address);
		if (tree_number(root, 0, "/sys/bus/pci/devices/%s/vendor", address) == VENDOR_NVIDIA && class_code >> 16 == CLASS_DISPLAY)
			add_gpu(root, address, facts);
	}
	read_driver(root, facts);
	facts->device_nodes = tree_exists(root, "/dev/nvidiactl");
	facts->peermem = tree_exists(root, "/sys/module/nvidia_peermem");
	facts->gdrcopy = tree_exists(root, "/sys/module/gdrdrv");
}
