/* The kernel, its limits, and what the container that we may be in lets through. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/doctor_impl.h"

enum { MOUNTS_BYTES_MAX = 256 << 10 };

/* "Max locked memory         8388608              8388608              bytes" */
static void read_limits(const char *root, struct doctor_facts *facts)
{
	char text[TREE_TEXT_MAX];
	tree_text(root, text, sizeof(text), "/proc/self/limits");
	const char *line = strstr(text, "Max locked memory");
	if (!line)
		return;
	line += strlen("Max locked memory");
	line += strspn(line, " \t");
	facts->lock_bytes = UINT64_MAX;
	facts->has_lock_bytes = strncmp(line, "unlimited", 9) == 0 || sscanf(line, "%" SCNu64, &facts->lock_bytes) == 1;
}

/* "CapEff:	00000000a80425fb" */
static void read_capabilities(const char *root, struct doctor_facts *facts)
{
	enum { CAPABILITY_IPC_LOCK = 14 };
	char text[TREE_TEXT_MAX];
	tree_text(root, text, sizeof(text), "/proc/self/status");
	const char *line = strstr(text, "CapEff:");
	facts->may_lock = line && strtoull(line + strlen("CapEff:"), NULL, 16) >> CAPABILITY_IPC_LOCK & 1;
}

/* "shm /dev/shm tmpfs rw,nosuid,size=65536k 0 0"; the last such line counts.  Without a size it is half of memory. */
static void read_shm(const char *root, struct doctor_facts *facts)
{
	char *text = malloc(MOUNTS_BYTES_MAX), *rest = NULL;
	if (!text || !tree_text(root, text, MOUNTS_BYTES_MAX, "/proc/self/mounts")) {
		free(text);
		return;
	}
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		const char *size = strstr(line, " /dev/shm ") ? strstr(line, "size=") : NULL;
		char unit = 0;
		unsigned long long number = 0;
		if (!size || sscanf(size, "size=%llu%c", &number, &unit) < 1 || number >= (uint64_t)1 << 40)
			continue;
		facts->shm_bytes = number << (unit == 'k' ? 10 : unit == 'm' ? 20 : unit == 'g' ? 30 : 0);
	}
	free(text);
}

/* "always within_size advise [never] deny force" */
static void read_choice(const char *root, const char *file, char *ret_text, size_t size)
{
	char text[128];
	tree_text(root, text, sizeof(text), "/sys/kernel/mm/transparent_hugepage/%s", file);
	char *from = strchr(text, '['), *to = from ? strchr(from, ']') : NULL;
	if (to)
		snprintf(ret_text, size, "%.*s", (int)(to - from - 1), from + 1);
}

static bool has_uverbs(const char *root)
{
	struct tree_names nodes;
	tree_list(root, &nodes, "/dev/infiniband");
	for (size_t i = 0; i < nodes.count; i++)
		if (strncmp(nodes.names[i], "uverbs", 6) == 0)
			return true;
	return false;
}

static bool is_container(const char *root)
{
	char text[TREE_TEXT_MAX];
	tree_text(root, text, sizeof(text), "/proc/1/cgroup");
	return tree_exists(root, "/.dockerenv") || tree_exists(root, "/run/.containerenv") || strstr(text, "kubepods") ||
	       tree_exists(root, "/var/run/secrets/kubernetes.io");
}

void doctor_read_host(const char *root, char **environment, struct doctor_facts *facts)
{
	unsigned major = 0, minor = 0;
	struct tree_names units;
	tree_text(root, facts->kernel, sizeof(facts->kernel), "/proc/sys/kernel/osrelease");
	if (sscanf(facts->kernel, "%u.%u", &major, &minor) == 2 && major < 1000 && minor < 1000)
		facts->kernel_version = major * 1000 + minor;
	tree_list(root, &units, "/sys/class/iommu");
	facts->iommu = units.count > 0;
	facts->infiniband_nodes = has_uverbs(root);
	read_limits(root, facts);
	read_capabilities(root, facts);
	read_shm(root, facts);
	read_choice(root, "shmem_enabled", facts->huge_shared, sizeof(facts->huge_shared));
	read_choice(root, "enabled", facts->huge_private, sizeof(facts->huge_private));
	int64_t disabled = tree_number(root, 0, "/proc/sys/kernel/io_uring_disabled");
	facts->uring_disabled = disabled > 0 && disabled < 10 ? (uint32_t)disabled : 0;
	facts->container = is_container(root);
	for (char **at = environment; at && *at; at++)
		if (strncmp(*at, "UCX_", 4) == 0 && facts->setting_count < DOCTOR_SETTINGS_MAX)
			facts->settings[facts->setting_count++] = *at;
}

void doctor_read(const char *root, const char *nvml, char **environment, struct doctor_facts *ret_facts)
{
	*ret_facts = (struct doctor_facts){0};
	doctor_read_gpus(root, ret_facts);
	doctor_read_nvml(nvml, root, ret_facts);
	doctor_read_ports(root, ret_facts);
	doctor_read_nets(root, ret_facts);
	doctor_read_host(root, environment, ret_facts);
}
