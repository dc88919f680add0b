/* service_world - the service alone, with the demonstration model and a core that the test plays (scripted_core.h), and clients
 * that remember all they heard. */
#ifndef TESTS_COORDINATOR_SERVICE_WORLD_H
#define TESTS_COORDINATOR_SERVICE_WORLD_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>

#include "coordinator/service.h"
#include "model/model_dir.h"
#include "tests/coordinator/scripted_core.h"

/* One client, and all that it heard. */
struct client {
	struct buf body;
	int status;
	uint64_t retry_after_ns;
	bool retry_is_vain;
	uint32_t replies, starts, writes, ends;
	uint32_t patience; /* writes it takes; 0: all */
};

struct world {
	struct served_model model;
	struct service *service;
	struct coord coord;
	uint64_t now_ns;
};

/* Before and after each test; the second is not 0 when a call has not ended. */
int service_world_open(void **state);
int service_world_close(void **state);
#define TEST(name) cmocka_unit_test_setup_teardown(name, service_world_open, service_world_close)

/* What tells the client. */
struct service_sink client_sink(struct client *client);
/* A body for the model "demo" with these fields; key: of idempotency, or NULL.  NULL: it was answered at once. */
struct service_call *post(struct world *world, enum api_kind kind, const char *fields, const char *key, struct client *client);
/* The ids of a text, to be "generated". */
struct tokens encode(struct world *world, const char *text);
/* Generates a text for a choice; LENGTH with its last token.  Stops where the service has enough; how many tokens it took. */
uint32_t say(struct world *world, uint32_t request, uint32_t choice, const char *text);
/* What the client heard, as JSON. */
json_t *parsed(const struct client *client);
/* json[a][index][b] */
const char *text_at(const json_t *json, const char *a, size_t index, const char *b);
#endif
