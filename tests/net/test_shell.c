/* What a core starts and takes back through its env comes to it once, however much of it is out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "net/link.h"
#include "net/loop.h"
#include "net/op_table.h"
#include "net/region.h"
#include "net/shell.h"

#define NODE 7
#define READS 16384 /* an engine's read_max */
#define PIECE 4096

/* ---- the table ---- */

typedef uint64_t number_fn(uint32_t i);

/* kvstore/reads.c, store_offers.c and visitor.c: a serial or a round above, below it what is small. */
static uint64_t serial_and_slot(uint32_t i)
{
	return (uint64_t)(i + 1) << 32 | i;
}

static uint64_t serial_index_layer(uint32_t i)
{
	return (uint64_t)(1 + i / 4096) << 32 | (uint64_t)(i / 64) << 16 | i % 64;
}

static uint64_t one_after_another(uint32_t i)
{
	return i + 1;
}

static uint64_t powers_apart(uint32_t i)
{
	return (uint64_t)i << 40 | 1;
}

static void any_op_is_found_in_a_few_steps(void **state)
{
	static number_fn *const numbers[] = {serial_and_slot, serial_index_layer, one_after_another, powers_apart};
	struct op_entry *entries = calloc(READS, sizeof(*entries));
	for (size_t n = 0; n < sizeof(numbers) / sizeof(*numbers); n++) {
		struct op_table table = {0};
		uint32_t most = 0;
		uint64_t sum = 0;
		assert_int_equal(op_table_init(&table, READS), ERR_OK);
		for (uint32_t i = 0; i < READS; i++) {
			entries[i].op = numbers[n](i);
			op_table_add(&table, &entries[i]);
		}
		for (uint32_t i = 0; i < READS; i++) {
			uint32_t steps = 0;
			assert_ptr_equal(op_table_find(&table, entries[i].op, &steps), &entries[i]);
			most = steps > most ? steps : most;
			sum += steps;
		}
		assert_true(most <= 16 && sum <= 2 * READS);
		for (uint32_t i = 0; i < READS; i += 2)
			op_table_remove(&entries[i]);
		for (uint32_t i = 0; i < READS; i++)
			assert_ptr_equal(op_table_find(&table, entries[i].op, NULL), i % 2 ? &entries[i] : NULL);
		uint32_t left = 0, from = 0;
		for (struct op_entry *entry; (entry = op_table_any(&table, &from)) != NULL; left++)
			op_table_remove(entry);
		assert_int_equal(left, READS / 2);
		op_table_fini(&table);
	}
	free(entries);
}

/* ---- a shell over a link that reads our own region ---- */

struct rig {
	struct loop *loop;
	struct link *link;
	struct region *region;
	struct shell *shell;
	uint8_t *landings; /* [READS][PIECE] */
	int outcomes[READS], frees[READS], ended;
	enum err errs[READS];
};

static void *landing(void *context, uint32_t number, uint32_t offset)
{
	return ((struct rig *)context)->landings + (size_t)number * PIECE + offset;
}

static void outcome(void *core, uint64_t op, enum err e, uint64_t digest, uint64_t now_ns)
{
	struct rig *rig = core;
	uint32_t i = (uint32_t)op;
	assert_true(i < READS && op == serial_and_slot(i));
	rig->outcomes[i]++;
	rig->errs[i] = e;
}

static void landing_free(void *core, uint64_t op, uint64_t now_ns)
{
	struct rig *rig = core;
	assert_int_equal(rig->outcomes[(uint32_t)op], 1);
	rig->frees[(uint32_t)op]++;
	rig->ended++;
}

static void tick(void *core, uint64_t now_ns)
{
}

static struct rig *begin(void)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct why why = {0};
	struct buf address = {0};
	rig->landings = calloc(READS, PIECE);
	assert_int_equal(loop_create(&rig->loop), ERR_OK);
	const struct region_options region = {.slot_bytes = PIECE, .slot_count = 2};
	assert_int_equal(region_create(&region, &rig->region, &why), ERR_OK);
	const struct link_options link = {.node = NODE, .incarnation = 1, .transport = LINK_MAPPED};
	assert_int_equal(link_create(rig->loop, &link, &rig->link, &why), ERR_OK);
	assert_int_equal(link_region_add(rig->link, rig->region, &why), ERR_OK);
	const struct shell_options shell = {.link = rig->link, .read_max = READS, .peer_max = 2, .context = rig, .landing = landing};
	assert_int_equal(shell_create(rig->loop, &shell, &rig->shell, &why), ERR_OK);
	shell_attach(rig->shell, &(struct shell_core){.core = rig, .tick = tick, .read_outcome = outcome, .landing_free = landing_free});
	assert_int_equal(link_local_address(rig->link, &address), ERR_OK);
	const struct env *env = shell_env(rig->shell);
	env->link_open(env->context, NODE, 1, (const uint8_t *)address.data, address.length);
	buf_fini(&address);
	return rig;
}

static void end(struct rig *rig)
{
	shell_detach(rig->shell);
	link_destroy(rig->link);
	shell_destroy(rig->shell);
	region_destroy(rig->region);
	loop_destroy(rig->loop);
	free(rig->landings);
	free(rig);
}

static void start_all(struct rig *rig)
{
	const struct env *env = shell_env(rig->shell);
	for (uint32_t i = 0; i < READS; i++) {
		struct env_read read = {.op = serial_and_slot(i), .node = NODE, .length = PIECE, .generation = 1, .landing = i,
					.deadline_ns = loop_now_ns(rig->loop) + 60000000000ull};
		env->read(env->context, &read);
	}
}

static void turn_until_ended(struct rig *rig, int wanted)
{
	while (rig->ended < wanted)
		loop_turn(rig->loop, 20000000);
}

/* What the cores do when a fetch ends with all of its reads out. */
static void each_of_all_reads_is_taken_back_by_its_op(void **state)
{
	struct rig *rig = begin();
	const struct env *env = shell_env(rig->shell);
	start_all(rig);
	struct timespec from, to;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	for (uint32_t i = 0; i < READS; i += 2)
		env->read_cancel(env->context, serial_and_slot(i));
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	env->read_cancel(env->context, 12345); /* of none */
	printf("%d of %d reads taken back in %.2f ms\n", READS / 2, READS,
	       (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6);
	turn_until_ended(rig, READS);
	for (uint32_t i = 0; i < READS; i++) {
		assert_int_equal(rig->outcomes[i], 1);
		assert_int_equal(rig->frees[i], 1);
		/* The loop may have copied a few before it comes to the cancels. */
		if (i % 2)
			assert_int_equal(rig->errs[i], ERR_OK);
		else if (rig->errs[i] != ERR_CANCELED)
			assert_int_equal(rig->errs[i], ERR_OK);
	}
	assert_int_equal(rig->errs[READS - 2], ERR_CANCELED);
	end(rig);
}

static void shell_that_ends_with_reads_out_tells_nobody(void **state)
{
	struct rig *rig = begin();
	start_all(rig);
	end(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_op_is_found_in_a_few_steps),
		cmocka_unit_test(each_of_all_reads_is_taken_back_by_its_op),
		cmocka_unit_test(shell_that_ends_with_reads_out_tells_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
