/* Which devices a trusted network is of, and which ports of NICs belong to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "net/rails.h"
#include "tests/scratch.h"

static char root[128];

static void put(const char *path, const char *text)
{
	char whole[512];
	snprintf(whole, sizeof(whole), "%s/sys/class/infiniband/%s", root, path);
	for (char *at = whole + 1; (at = strchr(at, '/')) != NULL; at++) {
		*at = 0;
		(void)mkdir(whole, 0700);
		*at = '/';
	}
	FILE *file = fopen(whole, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

/* Two NICs, one of two ports, the second with a VLAN; and one of InfiniBand without a network device. */
static int make_machine(void **state)
{
	assert_non_null(scratch_folder(root, sizeof(root), "rails"));
	put("mlx5_0/ports/1/gid_attrs/ndevs/0", "eth0\n");
	put("mlx5_0/ports/2/gid_attrs/ndevs/0", "eth1\n");
	put("mlx5_10/ports/1/gid_attrs/ndevs/0", "eth2\n");
	put("mlx5_10/ports/1/gid_attrs/ndevs/5", "eth2.7\n");
	put("mlx5_11/ports/1/state", "4: ACTIVE\n");
	return 0;
}

static int remove_machine(void **state)
{
	char command[256];
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

static void expect_rdma(const char *list, const char *wanted, uint32_t ports)
{
	struct rails rails;
	struct why why = {0};
	char text[RAILS_TEXT];
	uint32_t count = 0;
	assert_int_equal(rails_parse(list, &rails, &why), ERR_OK);
	if (rails_rdma(&rails, root, text, &count, &why) != ERR_OK)
		fail_msg("%s: %s", list, why.text);
	assert_string_equal(text, wanted);
	assert_int_equal(count, ports);
}

static void network_devices_bring_the_ports_of_their_nics(void **state)
{
	expect_rdma("eth0", "mlx5_0:1,eth0", 1);
	expect_rdma("eth1,eth2", "mlx5_0:2,eth1,mlx5_10:1,eth2", 2);
	expect_rdma("eth2.7", "mlx5_10:1,eth2.7", 1);
}

static void ports_bring_their_network_devices(void **state)
{
	expect_rdma("mlx5_0:2,mlx5_10:1", "mlx5_0:2,eth1,mlx5_10:1,eth2", 2);
	expect_rdma("mlx5_10", "mlx5_10:1,eth2", 1);
	expect_rdma("mlx5_11:1", "mlx5_11:1", 1);
	expect_rdma("eth0,mlx5_0:1", "mlx5_0:1,eth0", 1); /* the same */
}

static void device_without_a_nic_is_named(void **state)
{
	struct rails rails;
	struct why why = {0};
	char text[RAILS_TEXT] = "as it was";
	uint32_t ports = 9;
	assert_int_equal(rails_parse("eth0,bond0", &rails, &why), ERR_OK);
	assert_int_equal(rails_rdma(&rails, root, text, &ports, &why), ERR_NOT_FOUND);
	assert_non_null(strstr(why.text, "bond0"));
	assert_string_equal(text, "as it was");
	assert_int_equal(ports, 9);
}

static void lists_have_bounds(void **state)
{
	static const struct {
		const char *list, *said;
	} bad[] = {{"", "expected names"}, {"eth0,", "expected names"}, {",eth0", "expected names"}, {"^eth0", "expected names"}, {"eth0 eth1", "expected names"},
		   {"a,b,a", "a twice"}, {"a,b,c,d,e,f,g,h,i", "more than 8"},
		   {"0123456789012345678901234567890123456789012345678901234567890123", "expected names"}};
	struct rails rails = {.count = 77};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct why why = {0};
		assert_int_equal(rails_parse(bad[i].list, &rails, &why), ERR_INVALID);
		if (!strstr(why.text, bad[i].said))
			fail_msg("'%s': %s, expected %s", bad[i].list, why.text, bad[i].said);
		assert_int_equal(rails.count, 77);
	}
	assert_int_equal(rails_parse("a,b,c,d,e,f,g,h", &rails, NULL), ERR_OK);
	assert_int_equal(rails.count, 8);
	assert_string_equal(rails.names[7], "h");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(network_devices_bring_the_ports_of_their_nics),
		cmocka_unit_test(ports_bring_their_network_devices),
		cmocka_unit_test(device_without_a_nic_is_named),
		cmocka_unit_test(lists_have_bounds),
	};
	return cmocka_run_group_tests(tests, make_machine, remove_machine);
}
