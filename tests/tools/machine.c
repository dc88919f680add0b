#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <errno.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/scratch.h"
#include "tests/tools/machine.h"

enum { PATH_BYTES = 512, CONFIG_BYTES = 4096, ACS_AT = 0x148, NO_DRIVER = 9 };

/* ---- trees ---- */

static void path_of(const struct machine *m, char path[PATH_BYTES], const char *format, va_list args)
{
	int at = snprintf(path, PATH_BYTES, "%s", m->root);
	assert_true(vsnprintf(path + at, (size_t)(PATH_BYTES - at), format, args) < PATH_BYTES - at);
}

static void make_folders(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
		*slash = '/';
	}
}

static void write_file(char *path, const void *bytes, size_t length)
{
	make_folders(path);
	FILE *file = fopen(path, "we");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
}

void machine_file(struct machine *m, const char *text, const char *format, ...)
{
	char path[PATH_BYTES];
	va_list args;
	va_start(args, format);
	path_of(m, path, format, args);
	va_end(args);
	write_file(path, text, strlen(text));
}

void machine_bytes(struct machine *m, const void *bytes, size_t length, const char *format, ...)
{
	char path[PATH_BYTES];
	va_list args;
	va_start(args, format);
	path_of(m, path, format, args);
	va_end(args);
	write_file(path, bytes, length);
}

void machine_link(struct machine *m, const char *target, const char *format, ...)
{
	char path[PATH_BYTES];
	va_list args;
	va_start(args, format);
	path_of(m, path, format, args);
	va_end(args);
	make_folders(path);
	assert_int_equal(symlink(target, path), 0);
}

static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *walk)
{
	(void)stat, (void)kind, (void)walk;
	return remove(path);
}

void machine_remove(struct machine *m, const char *format, ...)
{
	char path[PATH_BYTES];
	va_list args;
	va_start(args, format);
	path_of(m, path, format, args);
	va_end(args);
	assert_int_equal(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

struct machine *machine_create(const char *nvml)
{
	struct machine *m = calloc(1, sizeof(*m));
	assert_non_null(m);
	assert_non_null(scratch_folder(m->root, sizeof(m->root), "doctor"));
	m->library = dlopen(nvml, RTLD_NOW);
	assert_non_null(m->library);
	m->nvml = dlsym(m->library, "fake_nvml");
	assert_non_null(m->nvml);
	*m->nvml = (struct fake_nvml){.driver = "580.65.06", .cuda = 13000, .init_error = NO_DRIVER};
	return m;
}

void machine_destroy(struct machine *m)
{
	machine_remove(m, "%s", "");
	dlclose(m->library);
	buf_fini(&m->text);
	buf_fini(&m->json);
	free(m);
}

/* ---- parts ---- */

/* Root ports at 15, 35, …; below each a switch with a GPU and a NIC. */
void machine_place(uint32_t place, char ret_root_port[16], char ret_gpu_bridge[16], char ret_gpu[16], char ret_nic[16])
{
	uint32_t bus = 0x15 + place * 0x10;
	snprintf(ret_root_port, 16, "0000:%02x:01.0", bus);
	snprintf(ret_gpu_bridge, 16, "0000:%02x:00.0", bus + 2);
	snprintf(ret_gpu, 16, "0000:%02x:00.0", bus + 3);
	snprintf(ret_nic, 16, "0000:%02x:00.0", bus + 4);
}

static void machine_device(struct machine *m, const char *address, const char *way, const char *vendor, const char *class, uint32_t place)
{
	char target[256];
	snprintf(target, sizeof(target), "../../../devices/%s", way);
	machine_link(m, target, "/sys/bus/pci/devices/%s", address);
	machine_file(m, vendor, "/sys/devices/%s/vendor", way);
	machine_file(m, class, "/sys/devices/%s/class", way);
	machine_file(m, place < MACHINE_PLACES / 2 ? "0\n" : "1\n", "/sys/devices/%s/numa_node", way);
	machine_file(m, "32.0 GT/s PCIe\n", "/sys/devices/%s/current_link_speed", way);
	machine_file(m, "32.0 GT/s PCIe\n", "/sys/devices/%s/max_link_speed", way);
	machine_file(m, "16\n", "/sys/devices/%s/current_link_width", way);
	machine_file(m, "16\n", "/sys/devices/%s/max_link_width", way);
}

/* A bridge whose second extended capability is Access Control Services, with nothing redirected. */
static void machine_bridge(struct machine *m, const char *address, const char *way, uint32_t place)
{
	uint8_t config[CONFIG_BYTES] = {0};
	config[0x100] = 0x01, config[0x102] = 0x01, config[0x103] = ACS_AT >> 4; /* advanced errors; next */
	config[0x102] |= (ACS_AT & 0xf) << 4;
	config[ACS_AT] = 0x0d, config[ACS_AT + 2] = 0x01;
	char path[PATH_BYTES];
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s", m->root, address);
	if (access(path, F_OK) == 0)
		return; /* the place's other device came by here */
	machine_device(m, address, way, "0x15b3\n", "0x060400\n", place);
	machine_bytes(m, config, sizeof(config), "/sys/devices/%s/config", way);
}

/* The way to a slot of the place's switch: behind its first port the GPU, behind its second the NIC. */
static void machine_slot(struct machine *m, uint32_t place, uint32_t slot, char ret_way[128])
{
	uint32_t bus = 0x15 + place * 0x10;
	char address[16], way[128];
	int at = snprintf(way, sizeof(way), "pci0000:%02x", bus);
	const unsigned bridges[3][2] = {{bus, 1}, {bus + 1, 0}, {bus + 2, slot}};
	for (int i = 0; i < 3; i++) {
		snprintf(address, sizeof(address), "0000:%02x:%02x.0", bridges[i][0], bridges[i][1]);
		at += snprintf(way + at, sizeof(way) - (size_t)at, "/%s", address);
		machine_bridge(m, address, way, place);
	}
	snprintf(ret_way, 128, "%s", way);
}

void machine_gpu(struct machine *m, uint32_t place)
{
	char bridges[128], way[160], port[16], bridge[16], gpu[16], nic[16];
	machine_place(place, port, bridge, gpu, nic);
	machine_slot(m, place, 0, bridges);
	snprintf(way, sizeof(way), "%s/%s", bridges, gpu);
	machine_device(m, gpu, way, "0x10de\n", "0x030200\n", place);
	machine_file(m, "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 16\n", "/proc/driver/nvidia/gpus/%s/information", gpu);
	m->nvml->gpus[m->nvml->gpu_count++] = (struct fake_gpu){
		.bus = 0x18 + place * 0x10,
		.name = "NVIDIA H100 80GB HBM3",
		.memory_bytes = (unsigned long long)81559 << 20,
		.major = 9,
		.ecc = 1,
		.persistence = 1,
		.power_mw = 700000,
		.power_default_mw = 700000,
		.link_count = 18,
		.link_kind = 2,
	};
}

void machine_nic(struct machine *m, uint32_t place, uint32_t number)
{
	char bridges[128], way[160], target[256], port[16], bridge[16], gpu[16], nic[16];
	machine_place(place, port, bridge, gpu, nic);
	machine_slot(m, place, 1, bridges);
	snprintf(way, sizeof(way), "%s/%s", bridges, nic);
	machine_device(m, nic, way, "0x15b3\n", "0x020700\n", place);
	snprintf(target, sizeof(target), "../../devices/%s/infiniband/mlx5_%u", way, number);
	machine_link(m, target, "/sys/class/infiniband/mlx5_%u", number);
	snprintf(target, sizeof(target), "../../../%s", nic);
	machine_link(m, target, "/sys/devices/%s/infiniband/mlx5_%u/device", way, number);
	machine_file(m, "4: ACTIVE\n", "/sys/class/infiniband/mlx5_%u/ports/1/state", number);
	machine_file(m, "400 Gb/sec (4X NDR)\n", "/sys/class/infiniband/mlx5_%u/ports/1/rate", number);
	machine_file(m, "InfiniBand\n", "/sys/class/infiniband/mlx5_%u/ports/1/link_layer", number);
	machine_file(m, "fe80:0000:0000:0000:a088:c203:0012:3456\n", "/sys/class/infiniband/mlx5_%u/ports/1/gids/0", number);
	machine_file(m, "IB/RoCE v1\n", "/sys/class/infiniband/mlx5_%u/ports/1/gid_attrs/types/0", number);
	for (unsigned i = 1; i < 8; i++)
		machine_file(m, "0000:0000:0000:0000:0000:0000:0000:0000\n", "/sys/class/infiniband/mlx5_%u/ports/1/gids/%u", number, i);
	machine_file(m, "", "/dev/infiniband/uverbs%u", number);
}

void machine_roce(struct machine *m, uint32_t number)
{
	static const char *const gids[] = {"fe80:0000:0000:0000:a288:c2ff:fe12:3456\n", "0000:0000:0000:0000:0000:ffff:0a00:0001\n"};
	char net[32];
	snprintf(net, sizeof(net), "eth%u\n", number);
	machine_file(m, "Ethernet\n", "/sys/class/infiniband/mlx5_%u/ports/1/link_layer", number);
	for (unsigned i = 0; i < 4; i++) {
		machine_file(m, gids[i / 2], "/sys/class/infiniband/mlx5_%u/ports/1/gids/%u", number, i);
		machine_file(m, i % 2 ? "RoCE v2\n" : "IB/RoCE v1\n", "/sys/class/infiniband/mlx5_%u/ports/1/gid_attrs/types/%u", number, i);
		machine_file(m, net, "/sys/class/infiniband/mlx5_%u/ports/1/gid_attrs/ndevs/%u", number, i);
	}
	machine_file(m, "up\n", "/sys/class/net/eth%u/operstate", number);
	machine_file(m, "0x15b3\n", "/sys/class/net/eth%u/device/vendor", number);
	machine_file(m, "400000\n", "/sys/class/net/eth%u/speed", number);
	machine_file(m, "9000\n", "/sys/class/net/eth%u/mtu", number);
}

/* ---- machines ---- */

static void lane(struct machine *m, const char *transport, const char *device)
{
	struct ucx_lane *lane = &m->live.lanes[m->live.lane_count++];
	snprintf(lane->transport, sizeof(lane->transport), "%s", transport);
	snprintf(lane->device, sizeof(lane->device), "%s", device);
}

void machine_cpus(struct machine *m)
{
	machine_file(m, "6.8.0-60-generic\n", "/proc/sys/kernel/osrelease");
	machine_file(m, "0\n", "/proc/sys/kernel/io_uring_disabled");
	machine_file(m, "Limit                     Soft Limit           Hard Limit           Units     \n"
			"Max locked memory         unlimited            unlimited            bytes     \n", "/proc/self/limits");
	machine_file(m, "Name:\tbaton\nCapEff:\t0000000000000000\n", "/proc/self/status");
	machine_file(m, "proc /proc proc rw 0 0\ntmpfs /dev/shm tmpfs rw,nosuid,nodev,size=64g 0 0\n", "/proc/self/mounts");
	machine_file(m, "always [madvise] never\n", "/sys/kernel/mm/transparent_hugepage/enabled");
	machine_file(m, "always within_size [advise] never deny force\n", "/sys/kernel/mm/transparent_hugepage/shmem_enabled");
	machine_file(m, "up\n", "/sys/class/net/ens1/operstate");
	machine_file(m, "25000\n", "/sys/class/net/ens1/speed");
	machine_file(m, "1500\n", "/sys/class/net/ens1/mtu");
	machine_file(m, "0x1af4\n", "/sys/class/net/ens1/device/vendor");
	m->live = (struct doctor_live){.tried = true, .ucx_version = "1.13.1", .clock_set = DOCTOR_YES};
	lane(m, "tcp", "ens1");
	lane(m, "posix", "memory");
	lane(m, "cma", "memory");
}

void machine_h100(struct machine *m)
{
	char device[16];
	machine_cpus(m);
	m->nvml->init_error = 0;
	for (uint32_t i = 0; i < MACHINE_PLACES; i++) {
		machine_gpu(m, i);
		machine_nic(m, i, i);
		snprintf(device, sizeof(device), "mlx5_%u:1", i);
		lane(m, "rc_mlx5", device);
		lane(m, "dc_mlx5", device);
	}
	machine_file(m, "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (builder@host)\n"
			"GCC version:  gcc version 12.2.0\n", "/proc/driver/nvidia/version");
	machine_file(m, "", "/dev/nvidiactl");
	machine_file(m, "live\n", "/sys/module/nvidia_peermem/initstate");
}

void machine_examine(struct machine *m, const char *nvml)
{
	doctor_read(m->root, nvml, m->environment, &m->facts);
	m->facts.live = m->live;
	doctor_judge(&m->facts, &m->findings);
	buf_clear(&m->text);
	buf_clear(&m->json);
	assert_int_equal(doctor_text(&m->facts, &m->findings, &m->text), ERR_OK);
	assert_int_equal(doctor_json(&m->facts, &m->findings, &m->json), ERR_OK);
	assert_int_equal(m->nvml->opened, 0);
}
