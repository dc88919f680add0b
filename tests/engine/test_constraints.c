#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "engine/constraints.h"
#include "engine/sequence.h"
#include "model/tokenizer.h"

enum { PROMPT = 3, ROOM = 64, VOCAB = 1100, EOS = 0 };

static const char person[] = "{\"json\":{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":\"integer\"}},"
			     "\"required\":[\"name\",\"age\"]}}";

struct world {
	struct tokenizer *tokenizer;
	struct constraints *constraints;
	struct constraint_hooks hooks;
	struct plan plan;
};

static const uint32_t eos = EOS;

static struct constraints *create(const struct tokenizer *tokenizer)
{
	const struct constraints_options options = {.tokenizer = tokenizer, .vocab_size = VOCAB, .eos_ids = &eos, .eos_count = 1};
	struct constraints *constraints;
	assert_int_equal(constraints_create(&options, &constraints), ERR_OK);
	return constraints;
}

static int setup(void **state)
{
	static struct world world;
	struct why why = {0};
	assert_int_equal(tokenizer_load("models/demo/tokenizer.json", &why, &world.tokenizer), ERR_OK);
	world.constraints = create(world.tokenizer);
	world.hooks = constraints_hooks(world.constraints);
	*state = &world;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	constraints_destroy(w->constraints);
	tokenizer_destroy(w->tokenizer);
	return 0;
}

static struct constraint *take(struct world *w, const char *structure)
{
	struct why why = {0};
	struct constraint *constraint = NULL;
	assert_int_equal(constraint_take(&w->hooks, structure, strlen(structure), &why, &constraint), ERR_OK);
	return constraint;
}

/* A prompt and an answer so far, as tokens. */
static void write_tokens(struct world *w, const char *answer, uint32_t *tokens, struct sequence *sequence)
{
	const struct tokenizer_encode_options options = {0};
	struct tokens encoded = {0};
	assert_int_equal(tokenizer_encode(w->tokenizer, answer, strlen(answer), &options, &encoded), ERR_OK);
	assert_true(encoded.count + PROMPT < ROOM);
	memset(tokens, 0, PROMPT * sizeof(*tokens));
	if (encoded.count > 0)
		memcpy(tokens + PROMPT, encoded.ids, encoded.count * sizeof(*tokens));
	*sequence = (struct sequence){.tokens = tokens, .prompt_count = PROMPT, .token_count = PROMPT + (uint32_t)encoded.count,
				      .choice_count = 1, .constraint = sequence->constraint};
	tokens_fini(&encoded);
}

static const uint64_t *mask_of(struct constraints *constraints, struct plan *plan, struct sequence *sequence)
{
	*plan = (struct plan){.run_count = 1, .sample_count = 1, .runs = {{.sequence = sequence, .count = 1, .sample_count = 1}}};
	constraints_begin(constraints, plan);
	assert_int_equal(constraints_wait(constraints), ERR_OK);
	return constraints_allowed(constraints, plan, &plan->runs[0]);
}

static bool allows(struct world *w, const uint64_t *mask, const char *token)
{
	uint32_t id;
	assert_int_equal(tokenizer_find(w->tokenizer, token, &id), ERR_OK);
	return mask[id / 64] >> id % 64 & 1;
}

static bool allows_eos(const uint64_t *mask)
{
	return mask[EOS / 64] >> EOS % 64 & 1;
}

static void equal_structures_are_compiled_once(void **state)
{
	struct world *w = *state;
	struct constraint *a = take(w, person), *b = take(w, person);
	assert_ptr_equal(a, b);
	constraint_give(&w->hooks, a);
	constraint_give(&w->hooks, b);
	assert_null(take(w, ""));
	struct why why = {0};
	struct constraint *none;
	assert_int_equal(constraint_take(&w->hooks, "{\"json\":7}", 10, &why, &none), ERR_INVALID);
	assert_true(why.text[0]);
}

static void the_end_is_allowed_where_the_answer_is_whole(void **state)
{
	struct world *w = *state;
	uint32_t tokens[ROOM];
	struct sequence sequence = {.constraint = take(w, person)};
	write_tokens(w, "", tokens, &sequence);
	const uint64_t *mask = mask_of(w->constraints, &w->plan, &sequence);
	assert_true(allows(w, mask, "{"));
	assert_false(allows(w, mask, "}"));
	assert_false(allows_eos(mask));
	write_tokens(w, "{\"name\": \"x\", \"age\": 7", tokens, &sequence);
	mask = mask_of(w->constraints, &w->plan, &sequence);
	assert_true(allows(w, mask, "}"));
	assert_true(allows(w, mask, "8"));
	assert_false(allows_eos(mask));
	write_tokens(w, "{\"name\": \"x\", \"age\": 7}", tokens, &sequence);
	mask = mask_of(w->constraints, &w->plan, &sequence);
	assert_true(allows_eos(mask));
	for (size_t i = 1; i < VOCAB / 64; i++)
		assert_int_equal(mask[i], 0);
	assert_int_equal(mask[0], UINT64_C(1) << EOS);
	constraint_give(&w->hooks, (struct constraint *)sequence.constraint);
}

static void what_is_remembered_is_believed_only_for_the_same_tokens(void **state)
{
	static const char *const answers[] = {"{\"name\": \"", "{\"name\": \"Mira", "{\"name\": \"Mira\", ", "{", "{\"name\": \"To\", \"age\": 1",
					      "{\"name\": \"Mira\", \"age\"", "", "{\"name\": \"Mira\", \"age\": 12}"};
	struct world *w = *state;
	struct plan plan;
	uint32_t tokens[ROOM];
	struct sequence sequence = {.constraint = take(w, person)};
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		struct constraints *fresh = create(w->tokenizer);
		const struct constraint_hooks hooks = constraints_hooks(fresh);
		struct constraint *constraint;
		assert_int_equal(constraint_take(&hooks, person, strlen(person), NULL, &constraint), ERR_OK);
		write_tokens(w, answers[i], tokens, &sequence);
		struct sequence other = sequence;
		other.constraint = constraint;
		const uint64_t *mask = mask_of(w->constraints, &w->plan, &sequence);
		assert_memory_equal(mask, mask_of(fresh, &plan, &other), VOCAB / 64 * sizeof(*mask));
		constraint_give(&hooks, constraint);
		constraints_destroy(fresh);
	}
	constraint_give(&w->hooks, (struct constraint *)sequence.constraint);
}

static void structures_in_no_use_make_room_for_others(void **state)
{
	struct world *w = *state;
	struct constraint *kept[CONSTRAINTS_MAX], *none;
	struct why why = {0};
	char structure[64];
	uint32_t count = 0;
	enum err e = ERR_OK;
	for (int round = 0; round < 2; round++) {
		for (count = 0; count < CONSTRAINTS_MAX; count++) {
			snprintf(structure, sizeof(structure), "{\"literal\":\"%d-%u\"}", round, count);
			e = constraint_take(&w->hooks, structure, strlen(structure), &why, &kept[count]);
			if (e != ERR_OK)
				break;
		}
		assert_in_range(count, 200, CONSTRAINTS_MAX);
		e = constraint_take(&w->hooks, person, strlen(person), &why, &none);
		assert_int_equal(e, ERR_AGAIN);
		while (count > 0)
			constraint_give(&w->hooks, kept[--count]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_structures_are_compiled_once),
		cmocka_unit_test(the_end_is_allowed_where_the_answer_is_whole),
		cmocka_unit_test(what_is_remembered_is_believed_only_for_the_same_tokens),
		cmocka_unit_test(structures_in_no_use_make_room_for_others),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
