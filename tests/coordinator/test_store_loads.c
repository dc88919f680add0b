/* What stores say of themselves is kept as it was said, for as many as there is room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/store_loads.h"

static struct store_loads loads;

static int setup(void **state)
{
	*state = malloc(store_loads_bytes(3));
	store_loads_init(&loads, *state, 3);
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static void report_is_kept_as_it_was_said(void **state)
{
	(void)state;
	Wire__TierLoad tiers[2] = {WIRE__TIER_LOAD__INIT, WIRE__TIER_LOAD__INIT}, *tier_list[2] = {&tiers[0], &tiers[1]};
	Wire__EvictedLoad evicted = WIRE__EVICTED_LOAD__INIT, *evicted_list[1] = {&evicted};
	Wire__TenantLoad tenant = WIRE__TENANT_LOAD__INIT, *tenant_list[1] = {&tenant};
	Wire__StoreLoad load = WIRE__STORE_LOAD__INIT;
	load.policy = (char *)"lru";
	load.bytes_total = 1000, load.bytes = 900, load.lookups = 8, load.keys_asked = 80;
	load.pinned_soft = 2, load.pinned_hard = 3, load.bytes_pinned = 30, load.bytes_pinned_max = 40;
	load.offers = 9, load.offers_taken = 4, load.offers_existing = 3, load.offers_refused = 2;
	load.lag_blocks = 5, load.lag_bytes = 50, load.lag_ns = 500, load.bytes_read = 70, load.reads_failed = 1;
	tiers[0].name = (char *)"dram", tiers[0].keys_found = 11, tiers[0].bytes_found = 110;
	tiers[1].name = (char *)"disk", tiers[1].keys_found = 12, tiers[1].bytes_found = 120;
	evicted.reason = (char *)"quota", evicted.blocks = 6;
	tenant.name = (char *)"acme", tenant.blocks = 7, tenant.bytes = 77, tenant.limited = true, tenant.quota_bytes = 99;
	tenant.keys_asked = 20, tenant.keys_found = 10, tenant.bytes_found = 100, tenant.refused = 2, tenant.evicted = 1;
	load.n_tiers = 2, load.tiers = tier_list;
	load.n_evicted = 1, load.evicted = evicted_list;
	load.n_tenants = 1, load.tenants = tenant_list;
	assert_null(store_loads_find(&loads, 50));
	store_loads_take(&loads, 50, &load);
	const struct store_load *kept = store_loads_find(&loads, 50);
	assert_string_equal(kept->policy, "lru");
	assert_true(kept->bytes_total == 1000 && kept->bytes == 900 && kept->lookups == 8 && kept->keys_asked == 80);
	assert_true(kept->pinned_soft == 2 && kept->pinned_hard == 3 && kept->bytes_pinned == 30 && kept->bytes_pinned_max == 40);
	assert_true(kept->offers == 9 && kept->offers_taken == 4 && kept->offers_existing == 3 && kept->offers_refused == 2);
	assert_true(kept->lag_blocks == 5 && kept->lag_bytes == 50 && kept->lag_ns == 500);
	assert_true(kept->bytes_read == 70 && kept->reads_failed == 1);
	assert_true(kept->tier_count == 2 && kept->evicted_count == 1 && kept->tenant_count == 1);
	assert_string_equal(kept->tiers[1].name, "disk");
	assert_true(kept->tiers[1].keys_found == 12 && kept->tiers[1].bytes_found == 120);
	assert_string_equal(kept->evicted[0].reason, "quota");
	assert_int_equal(kept->evicted[0].blocks, 6);
	const struct store_tenant *t = &kept->tenants[0];
	assert_string_equal(t->name, "acme");
	assert_true(t->blocks == 7 && t->bytes == 77 && t->limited && t->quota_bytes == 99);
	assert_true(t->keys_asked == 20 && t->keys_found == 10 && t->bytes_found == 100 && t->refused == 2 && t->evicted == 1);
	load.n_tenants = load.n_tiers = 0;
	load.bytes = 1;
	store_loads_take(&loads, 50, &load);
	assert_ptr_equal(store_loads_find(&loads, 50), kept);
	assert_true(kept->bytes == 1 && kept->tenant_count == 0 && kept->tier_count == 0);
}

static void store_that_was_silent_longest_makes_room(void **state)
{
	(void)state;
	Wire__StoreLoad load = WIRE__STORE_LOAD__INIT;
	for (uint64_t node = 1; node <= 3; node++)
		store_loads_take(&loads, node, &load);
	store_loads_take(&loads, 1, &load);
	store_loads_take(&loads, 4, &load);
	assert_null(store_loads_find(&loads, 2));
	assert_non_null(store_loads_find(&loads, 1));
	assert_non_null(store_loads_find(&loads, 3));
	assert_non_null(store_loads_find(&loads, 4));
	assert_null(store_loads_find(&loads, 0));
}

static void more_names_than_there_is_room_for_are_left_out(void **state)
{
	(void)state;
	static Wire__TenantLoad tenants[STORE_TENANTS_MAX + 5], *list[STORE_TENANTS_MAX + 5];
	static Wire__EvictedLoad evicted[STORE_NAMES_MAX + 2], *reasons[STORE_NAMES_MAX + 2];
	char long_name[200];
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = 0;
	for (int i = 0; i < STORE_TENANTS_MAX + 5; i++) {
		wire__tenant_load__init(&tenants[i]);
		tenants[i].name = long_name;
		list[i] = &tenants[i];
	}
	for (int i = 0; i < STORE_NAMES_MAX + 2; i++) {
		wire__evicted_load__init(&evicted[i]);
		evicted[i].reason = long_name;
		reasons[i] = &evicted[i];
	}
	Wire__StoreLoad load = WIRE__STORE_LOAD__INIT;
	load.n_tenants = STORE_TENANTS_MAX + 5, load.tenants = list;
	load.n_evicted = STORE_NAMES_MAX + 2, load.evicted = reasons;
	load.policy = long_name;
	store_loads_take(&loads, 9, &load);
	const struct store_load *kept = store_loads_find(&loads, 9);
	assert_int_equal(kept->tenant_count, STORE_TENANTS_MAX);
	assert_int_equal(kept->evicted_count, STORE_NAMES_MAX);
	assert_int_equal(strlen(kept->tenants[STORE_TENANTS_MAX - 1].name), PROTO_TENANT_MAX);
	assert_int_equal(strlen(kept->policy), STORE_NAME_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(report_is_kept_as_it_was_said, setup, teardown),
		cmocka_unit_test_setup_teardown(store_that_was_silent_longest_makes_room, setup, teardown),
		cmocka_unit_test_setup_teardown(more_names_than_there_is_room_for_are_left_out, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
