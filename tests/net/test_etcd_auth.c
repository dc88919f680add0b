/* etcd that knows its clients: mutual TLS, and its own users with passwords. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "etcd_fixture.h"
#include "net/certs.h"
#include "tests/scratch.h"

static const char *binary;
static char folder[64];

static const char *path(const char *name)
{
	static char paths[8][96];
	static int next;
	char *text = paths[next++ % 8];
	snprintf(text, sizeof(paths[0]), "%s/%s", folder, name);
	return text;
}

static void make_certificates(void)
{
	struct why why = {0};
	static const char *const hosts[] = {"127.0.0.1"};
	const char *const names[] = {"kvstore-1", "coordinator-1"}; /* the first one serves */
	if (certs_make_ca(folder, "default", &why) != ERR_OK)
		fail_msg("%s", why.text);
	for (int i = 0; i < 2; i++) {
		struct certs_node node = {.cluster = "default", .role = i ? "coordinator" : "kvstore", .name = names[i], .uri = "",
					  .hosts = hosts, .host_count = 1};
		if (certs_make_node(folder, &node, &why) != ERR_OK)
			fail_msg("%s", why.text);
	}
}

static struct etcd *client(struct fixture *fixture, struct etcd_server *server, struct etcd_options options)
{
	const char *urls[] = {etcd_server_url(server)};
	struct etcd *etcd;
	struct why why;
	options.endpoints = urls;
	options.endpoint_count = 1;
	options.call_timeout_ns = 3 * SECOND_NS;
	if (etcd_create(fixture->loop, &options, &etcd, &why) != ERR_OK)
		fail_msg("%s", why.text);
	return etcd;
}

static struct answer put_by(struct fixture *fixture, struct etcd *etcd, const char *key)
{
	struct answer answer = {0};
	etcd_put(etcd, key, "x", 1, 0, on_done, &answer);
	return wait_answer(fixture, &answer);
}

static struct answer put_once(struct fixture *fixture, struct etcd_server *server, struct etcd_options options, const char *key)
{
	struct etcd *etcd = client(fixture, server, options);
	struct answer answer = put_by(fixture, etcd, key);
	etcd_destroy(etcd);
	return answer;
}

static void etcd_with_client_certificates_takes_ours_and_no_other(void **state)
{
	struct fixture *fixture = *state;
	make_certificates();
	const char *const arguments[] = {"--client-cert-auth", "--trusted-ca-file", path("ca.pem"), "--cert-file",
					 path("kvstore-1.pem"), "--key-file", path("kvstore-1.key"), NULL};
	struct etcd_server *server = etcd_server_start_with(binary, arguments, 1);
	assert_non_null(server);
	/* One client at a time, as in every program. */
	etcd_destroy(fixture->etcd);
	struct etcd_options none = {.ca_file = path("ca.pem")}, ours = none;
	ours.certificate_file = path("coordinator-1.pem");
	ours.key_file = path("coordinator-1.key");
	assert_int_equal(put_once(fixture, server, ours, "with").e, ERR_OK);
	assert_int_not_equal(put_once(fixture, server, none, "without").e, ERR_OK);
	assert_int_equal(put_once(fixture, server, ours, "still").e, ERR_OK);
	etcd_server_stop(server);
	fixture->etcd = connect_client(fixture, 5 * SECOND_NS);
}

static struct answer put_until_known(struct fixture *fixture, struct etcd *etcd, const char *key)
{
	struct answer answer = {.e = ERR_AGAIN};
	for (int i = 0; i < 100 && answer.e == ERR_AGAIN; i++) {
		answer = put_by(fixture, etcd, key);
		loop_turn(fixture->loop, SECOND_NS / 10);
	}
	return answer;
}

static void run(const struct etcd_server *server, const char *words)
{
	char command[512];
	snprintf(command, sizeof(command), "ETCDCTL_API=3 etcdctl --endpoints %s %s >/dev/null 2>&1", etcd_server_url(server), words);
	if (system(command) != 0)
		fail_msg("%s", command);
}

static void ignore_event(struct etcd_watch *watch, const struct etcd_event *event, void *arg)
{
	(void)watch;
	(void)event;
	(*(int *)arg)++;
}

static void never_failed(struct etcd_watch *watch, enum err e, const char *text, void *arg)
{
	(void)watch;
	(void)arg;
	fail_msg("the watch cannot go on: %s: %s", err_text(e), text);
}

static void user_with_a_password_writes_where_it_may_also_when_its_token_is_over(void **state)
{
	struct fixture *fixture = *state;
	if (system("etcdctl version >/dev/null 2>&1") != 0) {
		print_message("no etcdctl: skipped\n");
		skip();
	}
	struct etcd_server *server = etcd_server_start_with(binary, NULL, 0);
	assert_non_null(server);
	run(server, "user add root:top");
	run(server, "user add baton:relay");
	run(server, "role add baton");
	run(server, "role grant-permission --prefix=true baton readwrite /baton/");
	run(server, "user grant-role baton baton");
	run(server, "user grant-role root root");
	run(server, "auth enable");
	struct etcd *ours = client(fixture, server, (struct etcd_options){.user = "baton", .password = "relay"});
	assert_int_equal(put_until_known(fixture, ours, "/baton/x").e, ERR_OK);
	assert_int_equal(put_until_known(fixture, ours, "/other/x").e, ERR_DENIED);
	int events = 0;
	static const struct etcd_watch_callbacks callbacks = {.on_event = ignore_event, .on_failed = never_failed};
	struct etcd_watch *watch;
	assert_int_equal(etcd_watch_start(ours, &(struct etcd_watch_options){.prefix = "/baton/"}, &callbacks, &events, &watch),
			 ERR_OK);
	WAIT_FOR(fixture, 20, events == 1);
	/* Tokens live in the server's memory: after a restart ours is unknown. */
	for (int i = 0; i < 55; i++)
		loop_turn(fixture->loop, SECOND_NS / 10);
	etcd_server_kill(server);
	assert_int_equal(etcd_server_restart(server), 0);
	struct answer answer = {.e = ERR_UNAVAILABLE};
	for (int i = 0; i < 20 && answer.e == ERR_UNAVAILABLE; i++)
		answer = put_until_known(fixture, ours, "/baton/y");
	if (answer.e != ERR_OK)
		fail_msg("%s", answer.text);
	WAIT_FOR(fixture, 20, events >= 2);
	etcd_watch_stop(watch);
	struct etcd *wrong = client(fixture, server, (struct etcd_options){.user = "baton", .password = "guess"});
	for (int i = 0; i < 30; i++)
		loop_turn(fixture->loop, SECOND_NS / 10);
	answer = put_by(fixture, wrong, "/baton/z");
	assert_int_equal(answer.e, ERR_AGAIN);
	answer = put_by(fixture, wrong, "/baton/z");
	assert_non_null(strstr(answer.text, "authentication failed"));
	assert_null(strstr(answer.text, "guess"));
	etcd_destroy(ours);
	etcd_destroy(wrong);
	etcd_server_stop(server);
}

int main(int argc, char **argv)
{
	int result = fixture_begin(argc, argv);
	if (result != 0)
		return result;
	binary = etcd_server_binary();
	if (!scratch_folder(folder, sizeof(folder), "etcd-auth"))
		return 1;
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(etcd_with_client_certificates_takes_ours_and_no_other),
		T(user_with_a_password_writes_where_it_may_also_when_its_token_is_over),
	};
	result = cmocka_run_group_tests(tests, NULL, NULL);
	fixture_end();
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command) == 0 ? result : 1;
}
