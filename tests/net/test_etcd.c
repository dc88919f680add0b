/* etcd: every call, and leases, against a real server; also when it hangs or restarts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "etcd_fixture.h"

static struct answer txn(struct fixture *fixture, const struct etcd_txn *options)
{
	struct answer answer = {0};
	etcd_txn(fixture->etcd, options, on_done, &answer);
	return wait_answer(fixture, &answer);
}

static void what_is_put_can_be_got_and_deleted(void **state)
{
	struct fixture *fixture = *state;
	struct answer answer = put(fixture, "one/a", "hello", 0);
	assert_int_equal(answer.e, ERR_OK);
	assert_string_equal(answer.text, "");
	int64_t created = answer.reply.revision;
	assert_int_equal(put(fixture, "one/a", "again", 0).e, ERR_OK);
	answer = get(fixture, "one/a");
	assert_int_equal(answer.e, ERR_OK);
	assert_string_equal(answer.kvs, "one/a=again ");
	assert_int_equal(answer.first.create_revision, created);
	assert_int_equal(answer.first.mod_revision, created + 1);
	assert_int_equal(answer.first.version, 2);

	struct answer gone = {0};
	etcd_delete(fixture->etcd, "one/a", on_done, &gone);
	gone = wait_answer(fixture, &gone);
	assert_int_equal(gone.e, ERR_OK);
	assert_int_equal(gone.reply.deleted, 1);
	assert_int_equal(get(fixture, "one/a").e, ERR_NOT_FOUND);
	assert_int_equal(fixture->ups, 1);
	assert_int_equal(fixture->downs, 0);
}

static void a_prefix_is_read_page_by_page_at_one_moment(void **state)
{
	struct fixture *fixture = *state;
	for (int i = 0; i < 5; i++) {
		char key[16];
		snprintf(key, sizeof(key), "page/%d", i);
		assert_int_equal(put(fixture, key, "v", 0).e, ERR_OK);
	}
	put(fixture, "page0", "neighbour", 0);
	struct answer first = range(fixture, &(struct etcd_range){.prefix = "page/", .limit = 2});
	assert_string_equal(first.kvs, "page/0=v page/1=v ");
	assert_true(first.reply.more);
	put(fixture, "page/2a", "later", 0);
	struct answer second = range(fixture, &(struct etcd_range){.prefix = "page/", .limit = 3, .after = "page/1",
								   .revision = first.reply.revision});
	assert_string_equal(second.kvs, "page/2=v page/3=v page/4=v ");
	assert_false(second.reply.more);
	struct answer names = range(fixture, &(struct etcd_range){.prefix = "page/", .after = "page/2", .keys_only = true});
	assert_string_equal(names.kvs, "page/2a= page/3= page/4= ");
	struct answer gone = delete_prefix(fixture, "page/");
	assert_int_equal(gone.reply.deleted, 6);
	assert_int_equal(get(fixture, "page0").e, ERR_OK);
	assert_int_equal(range(fixture, &(struct etcd_range){.prefix = "page/"}).reply.kv_count, 0);
}

static void a_revision_that_was_compacted_is_stale(void **state)
{
	struct fixture *fixture = *state;
	int64_t before = put(fixture, "stale/a", "1", 0).reply.revision;
	put(fixture, "stale/a", "2", 0);
	compact_now(fixture);
	struct answer answer = range(fixture, &(struct etcd_range){.prefix = "stale/", .revision = before});
	assert_int_equal(answer.e, ERR_STALE);
	assert_non_null(strstr(answer.text, etcd_server_url(fixture->server)));
}

static void a_transaction_compares_all_three_ways_and_does_all_three_things(void **state)
{
	struct fixture *fixture = *state;
	struct etcd_op puts[] = {{.kind = ETCD_OP_PUT, .key = "txn/a", .value = "1", .value_length = 1},
				 {.kind = ETCD_OP_PUT, .key = "txn/b", .value = "2", .value_length = 1}};
	struct etcd_op otherwise[] = {{.kind = ETCD_OP_GET, .key = "txn/", .prefix = true},
				      {.kind = ETCD_OP_GET, .key = "txn/b"}};
	struct etcd_compare absent = {.key = "txn/a", .target = ETCD_CREATE_REVISION, .relation = ETCD_EQUAL};
	struct etcd_txn create = {&absent, 1, puts, 2, otherwise, 2};
	struct answer answer = txn(fixture, &create);
	assert_int_equal(answer.e, ERR_OK);
	assert_true(answer.reply.succeeded);
	int64_t revision = answer.reply.revision;
	answer = txn(fixture, &create);
	assert_int_equal(answer.e, ERR_OK);
	assert_false(answer.reply.succeeded);
	assert_string_equal(answer.kvs, "txn/a=1 txn/b=2 txn/b=2 ");

	struct etcd_compare all[] = {
		{.key = "txn/a", .target = ETCD_MOD_REVISION, .relation = ETCD_EQUAL, .number = revision},
		{.key = "txn/a", .target = ETCD_CREATE_REVISION, .relation = ETCD_LESS, .number = revision + 1},
		{.key = "txn/b", .target = ETCD_VALUE, .relation = ETCD_EQUAL, .value = "2", .value_length = 1},
		{.key = "txn/b", .target = ETCD_VALUE, .relation = ETCD_NOT_EQUAL, .value = "3", .value_length = 1},
		{.key = "txn/b", .target = ETCD_VERSION, .relation = ETCD_GREATER, .number = 0},
	};
	struct etcd_op change[] = {{.kind = ETCD_OP_DELETE, .key = "txn/", .prefix = true},
				   {.kind = ETCD_OP_GET, .key = "txn/", .prefix = true}};
	answer = txn(fixture, &(struct etcd_txn){all, 5, change, 2, NULL, 0});
	assert_int_equal(answer.e, ERR_OK);
	assert_true(answer.reply.succeeded);
	assert_int_equal(answer.reply.deleted, 2);
	assert_string_equal(answer.kvs, "");
}

static void wrong_arguments_are_refused_by_callback(void **state)
{
	struct fixture *fixture = *state;
	char key[ETCD_KEY_BYTES_MAX + 2];
	memset(key, 'k', sizeof(key) - 1);
	key[sizeof(key) - 1] = 0;
	struct answer answer = get(fixture, key);
	assert_int_equal(answer.e, ERR_INVALID);
	assert_string_equal(answer.text, "a key of 1025 bytes, at most 1024 are allowed");
	assert_int_equal(get(fixture, "").e, ERR_INVALID);
	assert_int_equal(delete_prefix(fixture, "").e, ERR_INVALID);
	struct answer large = {0};
	char *value = calloc(1, ETCD_VALUE_BYTES_MAX + 1);
	etcd_put(fixture->etcd, "k", value, ETCD_VALUE_BYTES_MAX + 1, 0, on_done, &large);
	assert_int_equal(wait_answer(fixture, &large).e, ERR_INVALID);
	free(value);
	assert_int_equal(put(fixture, "k", "v", 12345).e, ERR_NOT_FOUND); /* no such lease */
}

static void a_reply_over_the_limit_is_refused(void **state)
{
	struct fixture *fixture = *state;
	const char *urls[] = {etcd_server_url(fixture->server)};
	struct etcd *small;
	assert_int_equal(etcd_create(fixture->loop, &(struct etcd_options){.endpoints = urls, .endpoint_count = 1,
									   .reply_bytes_max = 1000}, &small, NULL), ERR_OK);
	struct answer answer = {0};
	char value[2000] = {0};
	etcd_put(small, "limit/a", value, sizeof(value), 0, on_done, &answer);
	assert_int_equal(wait_answer(fixture, &answer).e, ERR_OK);
	memset(&answer, 0, sizeof(answer));
	etcd_get(small, "limit/a", on_done, &answer);
	assert_int_equal(wait_answer(fixture, &answer).e, ERR_TOO_LARGE);
	etcd_destroy(small);
}

static void endpoints_that_are_no_endpoints_are_named(void **state)
{
	struct fixture *fixture = *state;
	const char *const wrong[] = {"127.0.0.1:2379", "ftp://x:1", "http://x", "http://:1", "http://x:y", "http://x:1/a"};
	for (size_t i = 0; i < 6; i++) {
		struct etcd *etcd;
		struct why why = {0};
		struct etcd_options options = {.endpoints = &wrong[i], .endpoint_count = 1};
		assert_int_equal(etcd_create(fixture->loop, &options, &etcd, &why), ERR_INVALID);
		assert_non_null(strstr(why.text, wrong[i]));
	}
}

static void the_next_endpoint_serves_when_the_first_is_dead(void **state)
{
	struct fixture *fixture = *state;
	const char *urls[] = {"http://127.0.0.1:1", etcd_server_url(fixture->server)};
	struct etcd *etcd;
	assert_int_equal(etcd_create(fixture->loop, &(struct etcd_options){.endpoints = urls, .endpoint_count = 2},
				     &etcd, NULL), ERR_OK);
	put(fixture, "two/a", "v", 0);
	struct answer answer = {0};
	etcd_get(etcd, "two/a", on_done, &answer); /* a read goes on by itself */
	assert_int_equal(wait_answer(fixture, &answer).e, ERR_OK);
	memset(&answer, 0, sizeof(answer));
	etcd_put(etcd, "two/a", "w", 1, 0, on_done, &answer);
	assert_int_equal(wait_answer(fixture, &answer).e, ERR_OK);
	etcd_destroy(etcd);
}

static void a_cancelled_call_calls_back_at_once_and_only_once(void **state)
{
	struct fixture *fixture = *state;
	struct answer answer = {0}, second = {0}, third = {0};
	uint64_t call = etcd_get(fixture->etcd, "x", on_done, &answer);
	etcd_cancel(fixture->etcd, call);
	assert_int_equal(answer.calls, 1);
	assert_int_equal(answer.e, ERR_CANCELED);
	etcd_cancel(fixture->etcd, call);
	get(fixture, "x");
	assert_int_equal(answer.calls, 1);
	etcd_get(fixture->etcd, "x", on_done, &second);
	etcd_get(fixture->etcd, "", on_done, &third);
	etcd_put(fixture->etcd, "y", "", 0, 0, NULL, NULL);
	etcd_destroy(fixture->etcd);
	fixture->etcd = NULL;
	assert_int_equal(second.e, ERR_CANCELED);
	assert_int_equal(third.e, ERR_CANCELED);
	assert_int_equal(second.calls + third.calls, 2);
}

/* ---- leases ---- */

struct loss {
	int calls;
	enum err e;
	struct loop *loop;
	uint64_t at_ns;
};

static void on_lost(struct etcd_keepalive *keepalive, enum err e, const char *text, void *arg)
{
	struct loss *loss = arg;
	loss->calls++;
	loss->e = e;
	loss->at_ns = loop_now_ns(loss->loop);
	assert_true(etcd_keepalive_until_ns(keepalive) == 0);
}

static struct etcd_keepalive *keep(struct fixture *fixture, int64_t lease, uint32_t ttl_s, struct loss *loss)
{
	struct etcd_keepalive *keepalive;
	loss->loop = fixture->loop;
	assert_int_equal(etcd_keepalive_start(fixture->etcd, lease, ttl_s, loop_now_ns(fixture->loop), on_lost, loss,
					      &keepalive), ERR_OK);
	return keepalive;
}

static void revoking_a_lease_deletes_its_keys(void **state)
{
	struct fixture *fixture = *state;
	int64_t lease = grant(fixture, 60);
	put(fixture, "lease/a", "v", lease);
	assert_int_equal(get(fixture, "lease/a").first.lease, lease);
	assert_int_equal(revoke_lease(fixture, lease).e, ERR_OK);
	assert_int_equal(get(fixture, "lease/a").e, ERR_NOT_FOUND);
	assert_int_equal(revoke_lease(fixture, lease).e, ERR_NOT_FOUND);
}

static void a_kept_lease_lives_on_and_one_left_alone_takes_its_key_along(void **state)
{
	struct fixture *fixture = *state;
	int64_t kept = grant(fixture, 2), left = grant(fixture, 2);
	struct loss loss = {0};
	struct etcd_keepalive *keepalive = keep(fixture, kept, 2, &loss);
	put(fixture, "lives/kept", "v", kept);
	put(fixture, "lives/left", "v", left);
	uint64_t begin_ns = loop_now_ns(fixture->loop);
	WAIT_FOR(fixture, 15, get(fixture, "lives/left").e == ERR_NOT_FOUND);
	WAIT_FOR(fixture, 15, loop_now_ns(fixture->loop) > begin_ns + 5 * SECOND_NS);
	assert_int_equal(get(fixture, "lives/kept").e, ERR_OK);
	assert_int_equal(loss.calls, 0);
	assert_true(etcd_keepalive_until_ns(keepalive) > loop_now_ns(fixture->loop));
	etcd_keepalive_stop(keepalive);
	revoke_lease(fixture, kept);
}

static void a_keepalive_says_when_the_lease_is_gone(void **state)
{
	struct fixture *fixture = *state;
	int64_t lease = grant(fixture, 3);
	struct loss loss = {0};
	struct etcd_keepalive *keepalive = keep(fixture, lease, 3, &loss);
	revoke_lease(fixture, lease);
	WAIT_FOR(fixture, 10, loss.calls);
	assert_int_equal(loss.e, ERR_NOT_FOUND);
	for (int i = 0; i < 3; i++)
		loop_turn(fixture->loop, SECOND_NS / 10);
	assert_int_equal(loss.calls, 1);
	etcd_keepalive_stop(keepalive);
	etcd_keepalive_stop(NULL);
}

static void a_keepalive_gives_up_before_the_ttl_when_etcd_hangs(void **state)
{
	struct fixture *fixture = *state;
	int64_t lease = grant(fixture, 3);
	struct loss loss = {0};
	struct etcd_keepalive *keepalive = keep(fixture, lease, 3, &loss);
	uint64_t first_ns = etcd_keepalive_until_ns(keepalive);
	WAIT_FOR(fixture, 10, etcd_keepalive_until_ns(keepalive) > first_ns); /* renewed once */
	uint64_t until_ns = etcd_keepalive_until_ns(keepalive);
	etcd_server_pause(fixture->server);
	WAIT_FOR(fixture, 10, loss.calls);
	etcd_server_resume(fixture->server);
	assert_int_equal(loss.e, ERR_DEADLINE);
	assert_true(loss.at_ns >= until_ns);
	assert_true(loss.at_ns < until_ns + 3 * SECOND_NS / 10); /* the margin: a tenth of the ttl */
	etcd_keepalive_stop(keepalive);
}

static void a_keepalive_survives_a_restart_of_etcd(void **state)
{
	struct fixture *fixture = *state;
	int64_t lease = grant(fixture, 10);
	put(fixture, "restart/a", "v", lease);
	struct loss loss = {0};
	struct etcd_keepalive *keepalive = keep(fixture, lease, 10, &loss);
	etcd_server_kill(fixture->server);
	assert_int_equal(etcd_server_restart(fixture->server), 0);
	uint64_t restarted_ns = loop_now_ns(fixture->loop);
	WAIT_FOR(fixture, 12, etcd_keepalive_until_ns(keepalive) > restarted_ns + 9 * SECOND_NS - SECOND_NS / 10);
	assert_int_equal(loss.calls, 0);
	WAIT_FOR(fixture, 12, get(fixture, "restart/a").e == ERR_OK);
	etcd_keepalive_stop(keepalive);
	revoke_lease(fixture, lease);
}

int main(int argc, char **argv)
{
	int result = fixture_begin(argc, argv);
	if (result != 0)
		return result;
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(what_is_put_can_be_got_and_deleted),
		T(a_prefix_is_read_page_by_page_at_one_moment),
		T(a_revision_that_was_compacted_is_stale),
		T(a_transaction_compares_all_three_ways_and_does_all_three_things),
		T(wrong_arguments_are_refused_by_callback),
		T(a_reply_over_the_limit_is_refused),
		T(endpoints_that_are_no_endpoints_are_named),
		T(the_next_endpoint_serves_when_the_first_is_dead),
		T(a_cancelled_call_calls_back_at_once_and_only_once),
		T(revoking_a_lease_deletes_its_keys),
		T(a_kept_lease_lives_on_and_one_left_alone_takes_its_key_along),
		T(a_keepalive_says_when_the_lease_is_gone),
		T(a_keepalive_gives_up_before_the_ttl_when_etcd_hangs),
		T(a_keepalive_survives_a_restart_of_etcd),
	};
	result = cmocka_run_group_tests(tests, NULL, NULL);
	fixture_end();
	return result;
}
