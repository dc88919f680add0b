#include "tests/scratch.h"
#include "tls_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

char directory[64];

void make_node(const char *folder, struct certs_node node)
{
	struct why why = {0};
	node.cluster = node.cluster ? node.cluster : "test";
	if (certs_make_node(folder, &node, &why) != ERR_OK)
		fail_msg("%s", why.text);
}

struct tls *tls_open(const char *ca_folder, const char *folder, const char *name, const char *cluster)
{
	char ca[128], certificate[128], key[128];
	snprintf(ca, sizeof(ca), "%s/ca.pem", ca_folder);
	snprintf(certificate, sizeof(certificate), "%s/%s.pem", folder, name);
	snprintf(key, sizeof(key), "%s/%s.key", folder, name);
	struct tls *tls = NULL;
	struct why why = {0};
	if (tls_create(&(struct tls_options){ca, certificate, key, cluster}, &tls, &why) != ERR_OK)
		fail_msg("%s", why.text);
	return tls;
}

static void server_frame(struct stream *stream, const uint8_t *data, size_t length, void *arg)
{
	((struct rig *)arg)->frames++;
}

static void server_close(struct stream *stream, enum err e, const char *text, void *arg)
{
	struct rig *rig = arg;
	rig->server_closed++;
	rig->accepted = NULL;
}

static void on_accept(struct stream_listener *listener, struct stream *stream, void *arg)
{
	static const struct stream_callbacks callbacks = {.on_frame = server_frame, .on_close = server_close};
	struct rig *rig = arg;
	rig->opened++;
	rig->accepted = stream;
	stream_accept(stream, &callbacks, rig);
}

static void client_open(struct stream *stream, void *arg)
{
	((struct rig *)arg)->client_opened++;
}

static void client_frame(struct stream *stream, const uint8_t *data, size_t length, void *arg)
{
}

static void client_close(struct stream *stream, enum err e, const char *text, void *arg)
{
	struct rig *rig = arg;
	rig->client_closed++;
	rig->closed_with = e;
	rig->client = NULL;
}

const struct stream_callbacks client_callbacks = {.on_open = client_open, .on_frame = client_frame, .on_close = client_close};

void rig_open(struct rig *rig)
{
	struct why why = {0};
	*rig = (struct rig){.tls = tls_open(directory, directory, "prefill-1", "test")};
	assert_int_equal(loop_create(&rig->loop), ERR_OK);
	struct stream_options options = {.tls = rig->tls};
	if (stream_listen(rig->loop, "tls+tcp://127.0.0.1:0", &options, on_accept, rig, &rig->listener, &why) != ERR_OK)
		fail_msg("%s", why.text);
	snprintf(rig->url, sizeof(rig->url), "tls+tcp://127.0.0.1:%u", stream_listener_port(rig->listener));
}

void rig_dial(struct rig *rig, struct tls *tls)
{
	struct why why = {0};
	struct stream_options options = {.tls = tls};
	if (stream_dial(rig->loop, rig->url, 5 * second_ns, &options, &client_callbacks, rig, &rig->client, &why) != ERR_OK)
		fail_msg("%s", why.text);
	assert_int_equal(stream_send(rig->client, "hello", 5), ERR_OK);
}

void rig_close(struct rig *rig)
{
	struct stream_counts counts;
	stream_close(rig->client);
	rig->client = NULL;
	WAIT_FOR(rig, (stream_listener_counts(rig->listener, &counts), counts.open == 0));
	int frames = rig->frames;
	struct tls *good = tls_open(directory, directory, "coordinator-1", "test");
	rig_dial(rig, good);
	WAIT_FOR(rig, rig->frames == frames + 1);
	stream_close(rig->client);
	stream_close(rig->accepted);
	stream_listener_close(rig->listener);
	loop_destroy(rig->loop);
	tls_destroy(good);
	tls_destroy(rig->tls);
}

uint64_t refused_in_all(const struct tls *tls)
{
	uint64_t sum = 0;
	for (int i = 0; i < REFUSAL_COUNT; i++)
		sum += tls_refused(tls, (enum refusal)i);
	return sum;
}

void expect_refused(struct rig *rig, enum refusal refusal)
{
	WAIT_FOR(rig, refused_in_all(rig->tls) > 0);
	assert_int_equal(tls_refused(rig->tls, refusal), 1);
	assert_int_equal(refused_in_all(rig->tls), 1);
	assert_int_equal(rig->opened, 0);
	assert_int_equal(rig->frames, 0);
}

int make_all(void **state)
{
	char other[96];
	struct why why = {0};
	if (!scratch_folder(directory, sizeof(directory), "tls") || certs_make_ca(directory, "test", &why) != ERR_OK)
		return -1;
	snprintf(other, sizeof(other), "%s/other", directory);
	if (mkdir(other, 0700) != 0)
		return -1;
	make_node(directory, (struct certs_node){.role = "prefill", .name = "prefill-1"});
	make_node(directory, (struct certs_node){.role = "coordinator", .name = "coordinator-1"});
	make_node(directory, (struct certs_node){.role = "kvstore", .name = "kvstore-1"});
	make_node(directory, (struct certs_node){.role = "engine", .name = "engine-7"});
	return 0;
}

int remove_all(void **state)
{
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	return system(command);
}
