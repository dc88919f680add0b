/* Calls that do not go well: what the client is told, and that nothing runs on for it. */
#include <string.h>

#include "tests/coordinator/service_world.h"

static void one_refused_prompt_cancels_the_others(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	world->coord.refuse = ERR_UNAVAILABLE;
	world->coord.accept = 1;
	assert_null(post(world, API_COMPLETION, "\"prompt\":[\"x\",\"y\",\"z\"]", NULL, &client));
	assert_int_equal(client.status, 429); /* nodes live: it is only full */
	assert_int_equal(client.retry_after_ns, 1500000000);
	assert_false(world->coord.requests[0].canceled);
	service_tick(world->service);
	assert_true(world->coord.requests[0].canceled);
	buf_fini(&client.body);
}

static void nobody_there_is_503(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	world->coord.ready = false;
	world->coord.refuse = ERR_NOT_FOUND;
	assert_null(post(world, API_COMPLETION, "\"prompt\":\"x\"", NULL, &client));
	assert_int_equal(client.status, 503);
	assert_true(client.retry_after_ns > 0);
	buf_fini(&client.body);
}

static void unknown_models_are_404_and_long_prompts_400(void **state)
{
	struct world *world = *state;
	struct client client = {0}, other = {0};
	struct service_sink sink = client_sink(&client);
	static const char body[] = "{\"model\":\"other\",\"prompt\":\"x\"}";
	struct service_post what = {.kind = API_COMPLETION, .body = body, .length = strlen(body)};
	assert_null(service_post(world->service, &what, &sink));
	assert_int_equal(client.status, 404);
	world->coord.context_max = 8; /* of the nodes, below the model's */
	assert_null(post(world, API_COMPLETION, "\"prompt\":[1,2,3],\"max_tokens\":6", NULL, &other));
	assert_int_equal(other.status, 400);
	assert_non_null(strstr(other.body.data, "\"code\":\"context_length_exceeded\""));
	assert_int_equal(world->coord.count, 0);
	buf_fini(&client.body);
	buf_fini(&other.body);
}

static void a_failure_before_the_first_token_is_a_status(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	assert_non_null(post(world, API_COMPLETION, "\"prompt\":\"x\",\"stream\":true", NULL, &client));
	scripted_end(&world->coord, 0, ERR_UNAVAILABLE);
	assert_int_equal(client.starts, 0);
	assert_int_equal(client.status, 503);
	assert_int_equal(client.retry_after_ns, 2000000000);
	buf_fini(&client.body);
}

static void a_failure_in_the_stream_is_an_event_without_done(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	assert_non_null(post(world, API_COMPLETION, "\"prompt\":\"x\",\"stream\":true", NULL, &client));
	scripted_token(&world->coord, 0, 0, 20, WIRE__FINISH__FINISH_NONE, 0);
	scripted_end(&world->coord, 0, ERR_UNAVAILABLE);
	assert_int_equal(client.ends, 1);
	assert_non_null(strstr(client.body.data, "data: {\"error\":{\"message\":"));
	assert_null(strstr(client.body.data, "[DONE]"));
	buf_fini(&client.body);
}

static void a_client_that_leaves_cancels(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	struct service_call *call = post(world, API_COMPLETION, "\"prompt\":[\"x\",\"y\"],\"stream\":true", NULL, &client);
	scripted_token(&world->coord, 0, 0, 20, WIRE__FINISH__FINISH_NONE, 0);
	service_gone(call);
	assert_true(world->coord.requests[0].canceled && world->coord.requests[1].canceled);
	assert_int_equal(client.ends + client.replies, 0); /* it hears nothing more */
	buf_fini(&client.body);
}

static void a_client_that_does_not_read_is_given_up(void **state)
{
	struct world *world = *state;
	struct client client = {.patience = 3};
	struct service_counts counts;
	assert_non_null(post(world, API_COMPLETION, "\"prompt\":\"x\",\"stream\":true,\"max_tokens\":50", NULL, &client));
	assert_int_equal(scripted_token(&world->coord, 0, 0, 20, WIRE__FINISH__FINISH_NONE, 0), COORD_MORE);
	assert_int_equal(scripted_token(&world->coord, 0, 0, 20, WIRE__FINISH__FINISH_NONE, 0), COORD_MORE);
	assert_int_equal(scripted_token(&world->coord, 0, 0, 20, WIRE__FINISH__FINISH_NONE, 0), COORD_ENOUGH);
	assert_int_equal(client.ends, 1);
	service_tick(world->service);
	assert_true(world->coord.requests[0].canceled);
	service_counts(world->service, &counts);
	assert_int_equal(counts.slow_readers, 1);
	buf_fini(&client.body);
}

static void a_deadline_that_passed_is_408_and_not_to_be_repeated(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	assert_non_null(post(world, API_COMPLETION, "\"prompt\":\"x\"", NULL, &client));
	assert_true(world->coord.requests[0].deadline_ns > world->now_ns + 599 * (uint64_t)1000000000);
	scripted_end(&world->coord, 0, ERR_DEADLINE);
	assert_int_equal(client.status, 408);
	assert_true(client.retry_is_vain);
	assert_non_null(strstr(client.body.data, "\"code\":\"request_timeout\""));
	buf_fini(&client.body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_refused_prompt_cancels_the_others),
		TEST(nobody_there_is_503),
		TEST(unknown_models_are_404_and_long_prompts_400),
		TEST(a_failure_before_the_first_token_is_a_status),
		TEST(a_failure_in_the_stream_is_an_event_without_done),
		TEST(a_client_that_leaves_cancels),
		TEST(a_client_that_does_not_read_is_given_up),
		TEST(a_deadline_that_passed_is_408_and_not_to_be_repeated),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
