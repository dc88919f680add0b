/* What is left for a process, by made-up files of a machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "net/host_memory.h"

#define MIB (UINT64_C(1) << 20)

static char root[256];

static int setup(void **state)
{
	const char *folder = getenv("TMPDIR");
	(void)state;
	snprintf(root, sizeof(root), "%s/host-memory-XXXXXX", folder ? folder : "/tmp");
	return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[300];
	(void)state;
	snprintf(command, sizeof(command), "rm -r '%s'", root);
	return system(command);
}

static void put(const char *path, const char *text)
{
	char full[512];
	snprintf(full, sizeof(full), "%s/%s", root, path);
	for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
		*slash = 0;
		(void)mkdir(full, 0700);
	}
	FILE *file = fopen(full, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void check(uint64_t available, const char *bounded_by)
{
	struct host_memory memory;
	host_memory_read(root, &memory);
	assert_int_equal(memory.available, available);
	assert_string_equal(memory.bounded_by, bounded_by);
}

static void put_machine(void)
{
	put("proc/meminfo", "MemTotal:       16000000 kB\nMemFree:          100000 kB\nMemAvailable:    8192000 kB\nSwapFree: 9 kB\n");
}

static void a_machine_without_groups_has_what_it_says(void **state)
{
	(void)state;
	check(UINT64_MAX, "nothing known");
	put_machine();
	check(8000 * MIB, "MemAvailable of the machine");
	put("proc/self/cgroup", "0::/\n");
	put("sys/fs/cgroup/cgroup.controllers", "memory\n"); /* the topmost group has no bound */
	check(8000 * MIB, "MemAvailable of the machine");
}

static void the_tightest_group_on_the_way_up_bounds(void **state)
{
	(void)state;
	put_machine();
	put("proc/self/cgroup", "0::/kubepods/pod1/box\n");
	put("sys/fs/cgroup/kubepods/pod1/box/memory.max", "max\n");
	put("sys/fs/cgroup/kubepods/pod1/box/memory.current", "1048576\n");
	put("sys/fs/cgroup/kubepods/pod1/memory.max", "4294967296\n");
	put("sys/fs/cgroup/kubepods/pod1/memory.current", "1073741824\n");
	put("sys/fs/cgroup/kubepods/memory.max", "12884901888\n");
	put("sys/fs/cgroup/kubepods/memory.current", "4294967296\n");
	check(3072 * MIB, "memory.max of /kubepods/pod1");
	put("sys/fs/cgroup/kubepods/pod1/memory.stat", "anon 5\nworkingset_inactive_file 7\ninactive_file 536870912\nslab 3\n");
	check(3584 * MIB, "memory.max of /kubepods/pod1"); /* the kernel gives pages of files back */
	put("sys/fs/cgroup/kubepods/memory.current", "12884901887\n");
	check(1, "memory.max of /kubepods");
	put("sys/fs/cgroup/kubepods/memory.current", "13000000000\n");
	check(0, "memory.max of /kubepods");
}

static void groups_of_the_first_version_bound_as_well(void **state)
{
	(void)state;
	put_machine();
	put("proc/self/cgroup", "12:cpuset:/a\n11:cpu,memory,pids:/docker/1234\n1:name=systemd:/b\n0::/\n");
	put("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n"); /* as a container sees its own */
	put("sys/fs/cgroup/memory/memory.usage_in_bytes", "1073741824\n");
	put("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 104857600\n");
	check(1124 * MIB, "memory.limit_in_bytes of /");
	put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"); /* so it says "none" */
	check(8000 * MIB, "MemAvailable of the machine");
	put("proc/self/cgroup", "11:cpu,no-memory,pids:/docker/1234\n");
	put("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n");
	check(8000 * MIB, "MemAvailable of the machine");
}

static void what_does_not_fit_is_refused_by_name(void **state)
{
	(void)state;
	struct host_memory memory = {.available = 1000 * MIB, .bounded_by = "memory.max of /box"};
	struct why why = {{0}};
	uint64_t most = host_memory_most(&memory);
	assert_int_equal(most / MIB, (1000 - 64) * 32 / 33);
	assert_int_equal(host_memory_check(&memory, most, "--kv-bytes", &why), ERR_OK);
	assert_int_equal(host_memory_check(&memory, most + 1, "--kv-bytes", &why), ERR_NOMEM);
	assert_non_null(strstr(why.text, "--kv-bytes asks for 907 MiB"));
	assert_non_null(strstr(why.text, "1000 MiB are left by memory.max of /box"));
	memory.available = 0;
	assert_int_equal(host_memory_check(&memory, 1, "--kv-bytes", &why), ERR_NOMEM);
	memory.available = UINT64_MAX;
	assert_int_equal(host_memory_check(&memory, UINT64_MAX, "--kv-bytes", &why), ERR_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_machine_without_groups_has_what_it_says, setup, teardown),
		cmocka_unit_test_setup_teardown(the_tightest_group_on_the_way_up_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(groups_of_the_first_version_bound_as_well, setup, teardown),
		cmocka_unit_test(what_does_not_fit_is_refused_by_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
