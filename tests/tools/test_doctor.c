/* Made-up machines, and all that the doctor says of each: the files in doctor/ are compared whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <jansson.h>
#include <unistd.h>

#include "tests/tools/machine.h"

#define GPU "/sys/bus/pci/devices/0000:%02x:00.0/%s"

static const char *nvml_path, *expected_path;

static int begin(void **state)
{
	*state = machine_create(nvml_path);
	return 0;
}

static int end(void **state)
{
	machine_destroy(*state);
	return 0;
}

/* What scripts read says the same. */
static void check_json(const struct machine *m)
{
	json_t *report = json_loadb(m->json.data, m->json.length, 0, NULL);
	assert_non_null(report);
	assert_int_equal(json_array_size(json_object_get(report, "gpus")), m->facts.gpu_count);
	assert_int_equal(json_array_size(json_object_get(report, "nics")), m->facts.port_count);
	assert_int_equal(json_integer_value(json_object_get(report, "problems")), m->findings.counts[DOCTOR_PROBLEM]);
	json_t *list = json_object_get(report, "findings");
	assert_int_equal(json_array_size(list), m->findings.count);
	for (uint32_t i = 0; i < m->findings.count; i++) {
		json_t *finding = json_array_get(list, i);
		assert_string_equal(json_string_value(json_object_get(finding, "level")), doctor_level_text(m->findings.list[i].level));
		assert_string_equal(json_string_value(json_object_get(finding, "about")), m->findings.list[i].about);
		assert_string_equal(json_string_value(json_object_get(finding, "what")), m->findings.list[i].what);
		assert_string_equal(json_string_value(json_object_get(finding, "do")), m->findings.list[i].todo);
	}
	json_decref(report);
}

/* All but what is ok tells why, and what to do. */
static void check_findings(const struct machine *m)
{
	for (uint32_t i = 0; i < m->findings.count; i++) {
		const struct doctor_finding *finding = &m->findings.list[i];
		assert_int_equal(finding->level == DOCTOR_OK, finding->why == NULL);
		assert_int_equal(finding->level == DOCTOR_OK, finding->todo[0] == 0);
		assert_true(strlen(finding->what) + 1 < sizeof(finding->what) && strlen(finding->todo) + 1 < sizeof(finding->todo));
	}
}

/* With BATON_DOCTOR_WRITE the files are written instead, to be read before they are committed. */
static void expect(struct machine *m, const char *name)
{
	char path[512], *text = NULL;
	size_t size = 0;
	machine_examine(m, nvml_path);
	check_json(m);
	check_findings(m);
	snprintf(path, sizeof(path), "%s/%s.txt", expected_path, name);
	bool writes = getenv("BATON_DOCTOR_WRITE") != NULL;
	FILE *file = fopen(path, writes ? "we" : "re");
	if (!file)
		fail_msg("%s: %s", path, strerror(errno));
	if (writes)
		assert_int_equal(fwrite(m->text.data, 1, m->text.length, file), m->text.length);
	else
		assert_true(getdelim(&text, &size, 0, file) > 0);
	fclose(file);
	if (!writes)
		assert_string_equal(m->text.data, text);
	free(text);
}

static uint32_t bus_of_gpu(uint32_t place)
{
	return 0x18 + place * 0x10;
}

static void healthy_h100_has_nothing_to_complain_of(void **state)
{
	struct machine *m = *state;
	machine_h100(m);
	expect(m, "healthy");
	assert_int_equal(m->findings.counts[DOCTOR_PROBLEM] + m->findings.counts[DOCTOR_WARNING], 0);
	assert_string_equal(doctor_distance(&m->facts.gpus[0].pci, &m->facts.ports[0].pci), "PIX");
	assert_string_equal(doctor_distance(&m->facts.gpus[0].pci, &m->facts.ports[1].pci), "NODE");
	assert_string_equal(doctor_distance(&m->facts.gpus[0].pci, &m->facts.ports[4].pci), "SYS");
}

static void machine_without_anything_runs_on_cpus(void **state)
{
	struct machine *m = *state;
	machine_cpus(m);
	expect(m, "cpus");
	assert_int_equal(m->findings.counts[DOCTOR_PROBLEM] + m->findings.counts[DOCTOR_WARNING], 0);
}

/* Not one file: nothing is known, and nothing is made up. */
static void empty_root_is_no_error(void **state)
{
	expect(*state, "empty");
}

static void gids_that_do_not_route_are_found(void **state)
{
	struct machine *m = *state;
	machine_h100(m);
	for (uint32_t i = 0; i < MACHINE_PLACES; i++)
		machine_roce(m, i);
	m->environment[0] = (char *)"UCX_IB_GID_INDEX=1";
	/* 1: v2 and v1 have changed places; 2: v1 alone; 3: link-local alone; 4: packets of 1024 bytes; 5: down */
	machine_file(m, "RoCE v2\n", "/sys/class/infiniband/mlx5_1/ports/1/gid_attrs/types/0");
	machine_file(m, "IB/RoCE v1\n", "/sys/class/infiniband/mlx5_1/ports/1/gid_attrs/types/1");
	for (unsigned i = 1; i < 4; i += 2)
		machine_file(m, "IB/RoCE v1\n", "/sys/class/infiniband/mlx5_2/ports/1/gid_attrs/types/%u", i);
	for (unsigned i = 2; i < 4; i++)
		machine_file(m, "0000:0000:0000:0000:0000:0000:0000:0000\n", "/sys/class/infiniband/mlx5_3/ports/1/gids/%u", i);
	machine_file(m, "1500\n", "/sys/class/net/eth4/mtu");
	machine_file(m, "1: DOWN\n", "/sys/class/infiniband/mlx5_5/ports/1/state");
	expect(m, "gids");
}

static void narrow_and_slow_slots_are_found(void **state)
{
	struct machine *m = *state;
	machine_h100(m);
	machine_file(m, "8\n", GPU, bus_of_gpu(2), "current_link_width");
	machine_file(m, "8.0 GT/s PCIe\n", GPU, bus_of_gpu(3), "current_link_speed");
	machine_file(m, "8\n", GPU, bus_of_gpu(4) + 1, "current_link_width");
	machine_file(m, "16.0 GT/s PCIe\n", GPU, bus_of_gpu(5) + 1, "current_link_speed");
	/* A card that could be faster than its slot is as fast as it can be. */
	machine_file(m, "64.0 GT/s PCIe\n", GPU, bus_of_gpu(6) + 1, "max_link_speed");
	expect(m, "slots");
}

static void nic_of_the_other_socket_is_far(void **state)
{
	struct machine *m = *state;
	machine_h100(m);
	for (uint32_t i = 0; i < MACHINE_PLACES - 1; i++)
		machine_remove(m, "/sys/class/infiniband/mlx5_%u", i);
	expect(m, "far");
}

static void memory_of_gpus_that_nics_do_not_reach(void **state)
{
	struct machine *m = *state;
	uint8_t config[4096] = {0};
	machine_h100(m);
	machine_remove(m, "/sys/module/nvidia_peermem");
	machine_file(m, "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Release Build\n", "/proc/driver/nvidia/version");
	/* Access Control Services right at the start, and requests redirected. */
	config[0x100] = 0x0d, config[0x102] = 0x01, config[0x106] = 0x1d;
	machine_bytes(m, config, sizeof(config), "/sys/bus/pci/devices/0000:17:00.0/config");
	machine_file(m, "x\n", "/sys/class/iommu/dmar0/name");
	machine_file(m, "DMA-FQ\n", "/sys/kernel/iommu_groups/7/type");
	machine_link(m, "../../../../../../kernel/iommu_groups/7", GPU, bus_of_gpu(0), "iommu_group");
	machine_file(m, "identity\n", "/sys/kernel/iommu_groups/8/type");
	machine_link(m, "../../../../../../kernel/iommu_groups/8", GPU, bus_of_gpu(1), "iommu_group");
	expect(m, "unreached");
}

static void only_root_reads_what_switches_do(void **state)
{
	struct machine *m = *state;
	uint8_t config[64] = {0};
	machine_h100(m);
	machine_bytes(m, config, sizeof(config), "/sys/bus/pci/devices/0000:27:00.0/config");
	expect(m, "unread");
}

static void ill_gpus_are_found(void **state)
{
	struct machine *m = *state;
	machine_h100(m);
	struct fake_gpu *gpus = m->nvml->gpus;
	gpus[0].ecc_uncorrected = 3;
	gpus[1].remap_failed = 1;
	gpus[2].remap_pending = 1;
	gpus[3].throttle = 0x40;
	gpus[4].throttle = 0x20 | 0x04;
	gpus[5].power_mw = 400000;
	gpus[6].links_down = 1 << 3 | 1 << 17;
	gpus[7].links_down = 0x3ffff;
	gpus[0].mig = gpus[1].mig = gpus[3].mig = 1;
	gpus[2].ecc = 0;
	for (uint32_t i = 0; i < MACHINE_PLACES; i++)
		gpus[i].persistence = 0;
	gpus[4].major = 8;
	/* All clocks are low for lack of work, or of power: nothing is wrong. */
	gpus[6].throttle = 0x01 | 0x04;
	expect(m, "ill");
}

static void container_that_lets_nothing_through(void **state)
{
	struct machine *m = *state;
	machine_h100(m);
	machine_remove(m, "/dev/infiniband");
	machine_remove(m, "/dev/nvidiactl");
	machine_file(m, "", "/.dockerenv");
	machine_file(m, "Max locked memory         65536                65536                bytes     \n", "/proc/self/limits");
	machine_file(m, "shm /dev/shm tmpfs rw,nosuid,size=65536k 0 0\n", "/proc/self/mounts");
	machine_file(m, "always within_size advise [never] deny force\n", "/sys/kernel/mm/transparent_hugepage/shmem_enabled");
	machine_file(m, "always madvise [never]\n", "/sys/kernel/mm/transparent_hugepage/enabled");
	machine_file(m, "2\n", "/proc/sys/kernel/io_uring_disabled");
	m->nvml->init_error = 999;
	m->live.lane_count = 3; /* tcp, posix, cma */
	expect(m, "container");
	machine_file(m, "CapEff:\t0000000000004000\n", "/proc/self/status"); /* CAP_IPC_LOCK: the limit is not for us */
	uint32_t before = m->findings.counts[DOCTOR_PROBLEM];
	machine_examine(m, nvml_path);
	assert_int_equal(m->findings.counts[DOCTOR_PROBLEM], before - 1);
}

static void gpus_without_a_driver_are_a_problem(void **state)
{
	struct machine *m = *state;
	machine_cpus(m);
	machine_gpu(m, 0);
	machine_gpu(m, 1);
	machine_remove(m, "/proc/driver");
	expect(m, "driverless");
}

static void library_and_driver_that_differ_are_a_problem(void **state)
{
	struct machine *m = *state;
	machine_h100(m);
	m->nvml->init_error = 18;
	expect(m, "mismatch");
}

static void without_the_library_the_driver_still_tells_names(void **state)
{
	struct machine *m = *state;
	machine_h100(m);
	machine_examine(m, "/nonexistent/libnvidia-ml.so.1");
	assert_string_equal(m->facts.nvml_error, "not there");
	assert_int_equal(m->facts.gpu_count, 8);
	assert_string_equal(m->facts.gpus[7].name, "NVIDIA H100 80GB HBM3");
	assert_string_equal(m->facts.driver_version, "580.65.06");
	assert_int_equal(m->findings.counts[DOCTOR_WARNING], 1);
}

static void old_drivers_and_gpus_that_are_not_ours_are_told(void **state)
{
	struct machine *m = *state;
	machine_h100(m);
	m->nvml->driver = "550.90.07";
	m->nvml->cuda = 12040;
	m->nvml->gpu_count = 1;
	expect(m, "old");
}

static void settings_of_the_environment_are_judged(void **state)
{
	struct machine *m = *state;
	machine_h100(m);
	m->environment[0] = (char *)"UCX_TLS=rc,cuda";
	m->environment[1] = (char *)"PATH=/bin";
	m->environment[2] = (char *)"UCX_NET_DEVICES=mlx5_0:1,mlx5_8:1";
	m->environment[3] = (char *)"UCX_IB_GID_INDEX=3"; /* no matter on InfiniBand */
	expect(m, "settings");
}

static void trials_that_fail_are_told(void **state)
{
	struct machine *m = *state;
	machine_cpus(m);
	m->live.ucx_version[0] = 0;
	snprintf(m->live.ucx_error, sizeof(m->live.ucx_error), "it ended by signal 11");
	m->live.lane_count = 0;
	m->live.clock_set = DOCTOR_NO;
	m->live.has_skew = true;
	m->live.skew_s = -90;
	m->live.etcd = "http://etcd:2379";
	snprintf(m->live.disk, sizeof(m->live.disk), "/data");
	m->live.direct_error = EINVAL;
	m->live.uring_error = EPERM;
	m->live.ports[0].number = 8000, m->live.ports[0].taken = true;
	m->live.ports[1].number = 8001;
	m->live.port_count = 2;
	expect(m, "trials");
	m->live.disk_error = EACCES;
	m->live.has_skew = false;
	snprintf(m->live.etcd_error, sizeof(m->live.etcd_error), "it does not answer: Connection refused");
	expect(m, "trials_worse");
}

/* Whatever lies there is read within bounds, and cannot write on a terminal. */
static void strange_files_are_bounded(void **state)
{
	struct machine *m = *state;
	static char large[64 << 10];
	memset(large, '7', sizeof(large) - 1);
	machine_cpus(m);
	machine_gpu(m, 0);
	machine_nic(m, 0, 0);
	machine_file(m, large, "/sys/bus/pci/devices/0000:18:00.0/max_link_width");
	machine_file(m, "-3\n", "/sys/bus/pci/devices/0000:18:00.0/current_link_width");
	machine_file(m, "1e300 GT/s\n", "/sys/bus/pci/devices/0000:18:00.0/current_link_speed");
	machine_file(m, "99999999999\n", "/sys/bus/pci/devices/0000:18:00.0/numa_node");
	machine_file(m, "4: \x1b[31mACTIVE AND MUCH MORE THAN FITS\n", "/sys/class/infiniband/mlx5_0/ports/1/state");
	machine_file(m, large, "/sys/class/infiniband/mlx5_0/ports/1/rate");
	machine_file(m, large, "/sys/class/infiniband/mlx5_0/ports/1/gids/0");
	machine_file(m, large, "/sys/class/infiniband/mlx5_0/ports/1/gids/99999");
	machine_file(m, large, "/proc/self/limits");
	machine_file(m, large, "/proc/driver/nvidia/version");
	machine_file(m, "Max locked memory         many\n", "/proc/self/limits");
	machine_file(m, "tmpfs /dev/shm tmpfs size=99999999999999999999g 0 0\n", "/proc/self/mounts");
	machine_link(m, "loop", "/sys/class/net/loop");
	for (unsigned i = 0; i < 70; i++)
		machine_file(m, "up\n", "/sys/class/net/many%u/device/vendor", i);
	machine_file(m, "up\n", "/sys/class/net/veth0/operstate"); /* a container's */
	m->nvml->init_error = 0;
	m->nvml->gpu_count = 0;
	expect(m, "strange");
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	nvml_path = argv[1];
	expected_path = argv[2];
#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		CASE(healthy_h100_has_nothing_to_complain_of),
		CASE(machine_without_anything_runs_on_cpus),
		CASE(empty_root_is_no_error),
		CASE(gids_that_do_not_route_are_found),
		CASE(narrow_and_slow_slots_are_found),
		CASE(nic_of_the_other_socket_is_far),
		CASE(memory_of_gpus_that_nics_do_not_reach),
		CASE(only_root_reads_what_switches_do),
		CASE(ill_gpus_are_found),
		CASE(container_that_lets_nothing_through),
		CASE(gpus_without_a_driver_are_a_problem),
		CASE(library_and_driver_that_differ_are_a_problem),
		CASE(without_the_library_the_driver_still_tells_names),
		CASE(old_drivers_and_gpus_that_are_not_ours_are_told),
		CASE(settings_of_the_environment_are_judged),
		CASE(trials_that_fail_are_told),
		CASE(strange_files_are_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
