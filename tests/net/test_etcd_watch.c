/* etcd: watches against a real server that restarts, forgets its history, loses it, hangs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "etcd_fixture.h"

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
	enum { KEYS = 1200, AT_ONCE = 100 };
	char keys[AT_ONCE][32];
	struct etcd_op puts[AT_ONCE];
	for (int i = 0; i < KEYS; i++) {
		snprintf(keys[i % AT_ONCE], sizeof(keys[0]), "many/%05d", i);
		puts[i % AT_ONCE] = (struct etcd_op){.kind = ETCD_OP_PUT, .key = keys[i % AT_ONCE]};
		if (i % AT_ONCE != AT_ONCE - 1)
			continue;
		struct answer answer = {0};
		struct etcd_txn txn = {.then_ops = puts, .then_count = AT_ONCE};
		etcd_txn(fixture->etcd, &txn, on_done, &answer);
		assert_int_equal(wait_answer(fixture, &answer).e, ERR_OK);
	}
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
	other.etcd = connect_client(&other, 5 * SECOND_NS);
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
	other.etcd = connect_client(&other, 5 * SECOND_NS);
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
	other.etcd = connect_client(&other, 5 * SECOND_NS);
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
	assert_true(loop_now_ns(fixture->loop) < begin_ns + 7 * SECOND_NS);
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

int main(int argc, char **argv)
{
	int result = fixture_begin(argc, argv);
	if (result != 0)
		return result;
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
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
	};
	result = cmocka_run_group_tests(tests, NULL, NULL);
	fixture_end();
	return result;
}
