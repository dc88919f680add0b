#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/coordinator/story.h"

void cluster(struct world *w, bool spares)
{
	world_init(w, NULL);
	world_member(w, WIRE__ROLE__ROLE_PREFILL, "prefill 1", 1, "m");
	world_member(w, WIRE__ROLE__ROLE_DECODE, "decode 1", 1, "m");
	world_up(w, P1);
	world_up(w, D1);
	if (!spares)
		return;
	world_member(w, WIRE__ROLE__ROLE_PREFILL, "prefill 2", 1, "m");
	world_member(w, WIRE__ROLE__ROLE_DECODE, "decode 2", 1, "m");
}

void spares_up(struct world *w)
{
	world_up(w, P2);
	world_up(w, D2);
}

struct reserve expect_reserve(struct world *w, uint32_t fake, Wire__Half half)
{
	const Wire__Reserve *reserve = world_expect(w, fake, WIRE__ENVELOPE__BODY_RESERVE)->reserve;
	assert_int_equal(reserve->half, half);
	assert_int_equal(reserve->sampling->seed, 1);
	return (struct reserve){*reserve->job, (uint32_t)reserve->n_tokens, reserve->prompt_count,
				(uint32_t)reserve->n_choices, reserve->choices[0], (uint32_t)reserve->n_holders,
				reserve->tokens[reserve->n_tokens - 1], reserve->scored};
}

Wire__Cancel expect_cancel(struct world *w, uint32_t fake, const Wire__JobId *job)
{
	const Wire__Cancel *cancel = world_expect(w, fake, WIRE__ENVELOPE__BODY_CANCEL)->cancel;
	assert_int_equal(cancel->job->number, job->number);
	assert_int_equal(cancel->job->attempt, job->attempt);
	return *cancel;
}

struct reserve started(struct world *w, uint32_t p, uint32_t d)
{
	struct reserve reserve = expect_reserve(w, p, P);
	expect_reserve(w, d, D);
	say_reserved(w, p, &reserve.job, P, ERR_OK);
	world_expect_silence(w, p);
	say_reserved(w, d, &reserve.job, D, ERR_OK);
	world_expect(w, p, WIRE__ENVELOPE__BODY_START);
	world_expect(w, d, WIRE__ENVELOPE__BODY_START);
	return reserve;
}

void tell(struct world *w, uint32_t fake, const struct reserve *reserve, const struct seen *seen, uint32_t choice,
		 uint32_t position, Wire__Finish finish)
{
	say_token(w, fake, &reserve->job, choice, position, token_of(seen->prompt_first, choice, position), finish);
}

void expect_end(const struct seen *seen, enum err e)
{
	assert_int_equal(seen->ends, 1);
	assert_int_equal(seen->outcome.error, e);
}

void expect_empty(struct world *w)
{
	struct coord_node nodes[NODES_MAX];
	uint32_t count = coord_nodes(w->coord, w->now_ns, nodes, NODES_MAX);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(nodes[i].jobs, 0);
		assert_int_equal(nodes[i].sequences, 0);
		assert_int_equal(nodes[i].tokens_waiting, 0);
	}
	assert_int_equal(coord_requests(w->coord), 0);
	coord_check(w->coord);
}
