#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "proto/codec.h"
#include "proto/job.h"

enum { ARENA = 1 << 20 };
static uint8_t arena_memory[ARENA];

static enum err unpack(const uint8_t *frame, size_t length, struct why *why, Wire__Envelope **ret)
{
	static struct codec_arena arena;
	arena = (struct codec_arena){.memory = arena_memory, .capacity = ARENA};
	return codec_unpack(&arena, frame, length, why, ret);
}

/* A Reserve that passes every check; the tests spoil one thing at a time. */
struct sample_reserve {
	Wire__Reserve reserve;
	Wire__JobId job;
	Wire__Sampling sampling;
	Wire__TokenBias biases[SAMPLING_BIAS_MAX];
	Wire__TokenBias *bias_pointers[SAMPLING_BIAS_MAX];
	uint32_t tokens[8];
	uint32_t choices[2];
	uint8_t compat[16];
};

static const struct sampling plain = {.seed = 7, .top_p = 1, .repetition_penalty = 1, .max_tokens = 4, .logprobs = -1};

static void fill(struct sample_reserve *s)
{
	memset(s, 0, sizeof(*s));
	wire__reserve__init(&s->reserve);
	wire__job_id__init(&s->job);
	s->job.number = 42;
	codec_sampling_put(&plain, &s->sampling, s->biases, s->bias_pointers);
	for (uint32_t i = 0; i < 8; i++)
		s->tokens[i] = i * 1000;
	s->choices[1] = 1;
	s->reserve.job = &s->job;
	s->reserve.sampling = &s->sampling;
	s->reserve.n_tokens = 8;
	s->reserve.tokens = s->tokens;
	s->reserve.prompt_count = 8;
	s->reserve.n_choices = 2;
	s->reserve.choices = s->choices;
	s->reserve.compat = (ProtobufCBinaryData){16, s->compat};
	s->reserve.model = s->reserve.tenant = s->reserve.request = "m";
}

static enum err round_trip(struct sample_reserve *s, struct why *why, Wire__Envelope **ret)
{
	PROTO_ENVELOPE(envelope, RESERVE, reserve, &s->reserve);
	static uint8_t frame[ARENA];
	size_t length = codec_pack(&envelope, frame);
	assert_int_equal(length, codec_packed_size(&envelope));
	return unpack(frame, length, why, ret);
}

static void message_comes_back_as_it_went(void **state)
{
	struct sample_reserve s;
	fill(&s);
	Wire__Envelope *back = NULL;
	assert_int_equal(round_trip(&s, NULL, &back), ERR_OK);
	assert_int_equal(back->body_case, WIRE__ENVELOPE__BODY_RESERVE);
	assert_int_equal(back->reserve->job->number, 42);
	assert_int_equal(back->reserve->n_tokens, 8);
	assert_memory_equal(back->reserve->tokens, s.tokens, sizeof(s.tokens));
	struct sampling sampling;
	assert_int_equal(codec_sampling_get(back->reserve->sampling, NULL, &sampling), ERR_OK);
	assert_memory_equal(&sampling, &plain, sizeof(plain));
}

static void missing_parts_and_broken_limits_are_named(void **state)
{
	struct sample_reserve s;
	struct why why = {0};
	Wire__Envelope *back;
	fill(&s);
	s.reserve.job = NULL;
	assert_int_equal(round_trip(&s, &why, &back), ERR_PROTOCOL);
	assert_string_equal(why.text, "reserve: no job");
	fill(&s);
	s.reserve.prompt_count = 9;
	assert_int_equal(round_trip(&s, &why, &back), ERR_PROTOCOL);
	assert_non_null(strstr(why.text, "prompt_count 9 of 8 tokens"));
	fill(&s);
	s.reserve.compat.len = 15;
	assert_int_equal(round_trip(&s, &why, &back), ERR_PROTOCOL);
	assert_non_null(strstr(why.text, "compat: 15 bytes, expected 16"));
	fill(&s);
	s.reserve.n_choices = 0;
	assert_int_equal(round_trip(&s, &why, &back), ERR_PROTOCOL);
}

static void another_version_is_refused_as_such(void **state)
{
	Wire__Beat beat = WIRE__BEAT__INIT;
	PROTO_ENVELOPE(envelope, BEAT, beat, &beat);
	envelope.version = PROTO_VERSION + 1;
	uint8_t frame[64];
	struct why why = {0};
	Wire__Envelope *back;
	assert_int_equal(unpack(frame, codec_pack(&envelope, frame), &why, &back), ERR_MISMATCH);
	char said[64];
	snprintf(said, sizeof(said), "protocol version %d, expected %d", PROTO_VERSION + 1, PROTO_VERSION);
	assert_string_equal(why.text, said);
}

static void memory_is_bounded_by_the_arena(void **state)
{
	struct sample_reserve s;
	fill(&s);
	static uint32_t many[200000];
	s.reserve.tokens = many; /* one byte each on the wire, four in memory */
	s.reserve.n_tokens = 200000;
	s.reserve.prompt_count = 1;
	Wire__Envelope *back;
	assert_int_equal(round_trip(&s, NULL, &back), ERR_OK);
	static uint8_t frame[ARENA];
	PROTO_ENVELOPE(envelope, RESERVE, reserve, &s.reserve);
	size_t length = codec_pack(&envelope, frame);
	struct codec_arena small = {.memory = arena_memory, .capacity = 100000};
	assert_int_equal(codec_unpack(&small, frame, length, NULL, &back), ERR_TOO_LARGE);
	assert_true(small.used <= small.capacity);
}

/* Any bytes give a message that passed every check, or an error: never anything else. */
static void damaged_frames_are_refused_or_whole(void **state)
{
	struct sample_reserve s;
	fill(&s);
	PROTO_ENVELOPE(envelope, RESERVE, reserve, &s.reserve);
	uint8_t frame[1024], damaged[1024];
	size_t length = codec_pack(&envelope, frame);
	struct rng rng = {.seed = 3};
	uint32_t refused = 0;
	for (int round = 0; round < 20000; round++) {
		memcpy(damaged, frame, length);
		size_t cut = length;
		for (uint64_t flips = 1 + rng_below(&rng, 3); flips > 0; flips--)
			damaged[rng_below(&rng, length)] = (uint8_t)rng_next(&rng);
		if (rng_below(&rng, 4) == 0)
			cut = rng_below(&rng, length);
		struct why why = {0};
		Wire__Envelope *back = NULL;
		enum err e = unpack(damaged, cut, &why, &back);
		refused += e != ERR_OK;
		if (e != ERR_OK)
			assert_true(why.text[0] != 0);
		else if (back->body_case == WIRE__ENVELOPE__BODY_RESERVE)
			assert_true(back->reserve->job && back->reserve->sampling && back->reserve->n_tokens > 0);
	}
	assert_true(refused > 1000 && refused < 20000);
}

static void sampling_out_of_range_names_the_field(void **state)
{
	static const struct {
		struct sampling sampling;
		const char *field;
	} wrong[] = {
		{{.temperature = NAN, .top_p = 1, .repetition_penalty = 1, .max_tokens = 1}, "temperature"},
		{{.temperature = -1, .top_p = 1, .repetition_penalty = 1, .max_tokens = 1}, "temperature"},
		{{.top_p = 0, .repetition_penalty = 1, .max_tokens = 1}, "top_p"},
		{{.top_p = 1, .min_p = 2, .repetition_penalty = 1, .max_tokens = 1}, "min_p"},
		{{.top_p = 1, .presence_penalty = 3, .repetition_penalty = 1, .max_tokens = 1}, "presence_penalty"},
		{{.top_p = 1, .repetition_penalty = 0, .max_tokens = 1}, "repetition_penalty"},
		{{.top_p = 1, .repetition_penalty = 1, .max_tokens = 0}, "max_tokens"},
		{{.top_p = 1, .repetition_penalty = 1, .max_tokens = 1, .logprobs = 21}, "logprobs"},
		{{.temperature = 100.5f, .top_p = 1, .repetition_penalty = 1, .max_tokens = 1}, "temperature"},
		{{.top_p = 1.5f, .repetition_penalty = 1, .max_tokens = 1}, "top_p"},
		{{.top_p = 1, .min_p = -0.5f, .repetition_penalty = 1, .max_tokens = 1}, "min_p"},
		{{.top_p = 1, .frequency_penalty = -INFINITY, .repetition_penalty = 1, .max_tokens = 1}, "frequency_penalty"},
		{{.top_p = 1, .repetition_penalty = 101, .max_tokens = 1}, "repetition_penalty"},
		{{.top_p = 1, .repetition_penalty = 1, .max_tokens = 1, .logprobs = -2}, "logprobs"},
		{{.top_p = 1, .repetition_penalty = 1, .max_tokens = 1, .prompt_logprobs = 22}, "prompt_logprobs"},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct sample_reserve s;
		struct sampling back;
		struct why why = {0};
		codec_sampling_put(&wrong[i].sampling, &s.sampling, s.biases, s.bias_pointers);
		assert_int_equal(codec_sampling_get(&s.sampling, &why, &back), ERR_INVALID);
		assert_non_null(strstr(why.text, wrong[i].field));
	}
}

static void too_many_stop_tokens_or_biases_are_refused(void **state)
{
	struct sample_reserve s;
	struct sampling back, most = plain;
	struct why why = {0};
	most.stop_id_count = SAMPLING_STOP_IDS_MAX;
	most.bias_count = SAMPLING_BIAS_MAX;
	for (uint32_t i = 0; i < SAMPLING_BIAS_MAX; i++)
		most.biases[i] = (struct sampling_bias){i, (float)i / 2};
	codec_sampling_put(&most, &s.sampling, s.biases, s.bias_pointers);
	assert_int_equal(codec_sampling_get(&s.sampling, NULL, &back), ERR_OK);
	assert_memory_equal(&back, &most, sizeof(back));
	s.sampling.n_stop_ids++;
	assert_int_equal(codec_sampling_get(&s.sampling, &why, &back), ERR_TOO_LARGE);
	assert_non_null(strstr(why.text, "stop tokens"));
	s.sampling.n_stop_ids = 0;
	s.sampling.n_biases++;
	assert_int_equal(codec_sampling_get(&s.sampling, NULL, &back), ERR_TOO_LARGE);
}

static void a_frame_over_its_limit_is_not_looked_at(void **state)
{
	struct why why = {0};
	Wire__Envelope *back;
	assert_int_equal(unpack(NULL, PROTO_FRAME_MAX + 1, &why, &back), ERR_TOO_LARGE);
	assert_string_equal(why.text, "frame of 16777217 bytes, at most 16777216");
}

/* However little memory there is: it is said, and nothing is written behind it. */
static void any_arena_is_enough_or_too_small(void **state)
{
	struct sample_reserve s;
	fill(&s);
	PROTO_ENVELOPE(envelope, RESERVE, reserve, &s.reserve);
	uint8_t frame[1024];
	size_t length = codec_pack(&envelope, frame), enough = 0;
	for (size_t capacity = 0; capacity < 2048; capacity++) {
		memset(arena_memory, 0xee, 4096);
		struct codec_arena arena = {.memory = arena_memory, .capacity = capacity};
		Wire__Envelope *back;
		enum err e = codec_unpack(&arena, frame, length, NULL, &back);
		assert_int_equal(e, enough ? ERR_OK : e == ERR_OK ? ERR_OK : ERR_TOO_LARGE);
		enough += e == ERR_OK;
		assert_int_equal(arena_memory[capacity], 0xee);
	}
	assert_true(enough > 0 && enough < 2048);
}

/* Numbers of every length, zero among them. */
static uint64_t some_number(struct rng *rng, unsigned bits)
{
	return rng_next(rng) >> (64 - bits) >> rng_next(rng) % bits;
}

static void fill_found(struct rng *rng, Wire__Found *found, Wire__FoundBlock *blocks, Wire__Place *places, uint64_t *digests)
{
	found->op = some_number(rng, 64);
	found->more = rng_next(rng) % 2;
	found->n_blocks = rng_next(rng) % 200;
	for (size_t i = 0; i < found->n_blocks; i++) {
		wire__place__init(&places[i]);
		places[i].rank = (uint32_t)some_number(rng, 16);
		places[i].kind = (Wire__MemoryKind)(rng_next(rng) % 2);
		places[i].region = (uint32_t)some_number(rng, 32);
		places[i].offset = some_number(rng, 64);
		places[i].generation = some_number(rng, 64);
		wire__found_block__init(&blocks[i]);
		blocks[i].index = (uint32_t)some_number(rng, 32);
		blocks[i].place = &places[i];
		blocks[i].n_digests = rng_next(rng) % 60;
		blocks[i].digests = digests + rng_next(rng) % 60;
		blocks[i].more_copies = (uint32_t)some_number(rng, 8) % 4;
	}
}

/* Packed by hand, read by the library, packed by the library: the bytes that the library makes of the original. */
static void found_packed_by_hand_is_what_the_library_reads(void **state)
{
	static Wire__FoundBlock blocks[200], *list[200];
	static Wire__Place places[200];
	static uint8_t ours[1 << 18], theirs[1 << 18], again[1 << 18];
	uint64_t digests[120];
	struct rng rng = {.seed = 11};
	for (size_t i = 0; i < 120; i++)
		digests[i] = rng_next(&rng);
	for (size_t i = 0; i < 200; i++)
		list[i] = &blocks[i];
	for (int round = 0; round < 300; round++) {
		Wire__Found found = WIRE__FOUND__INIT;
		found.blocks = list;
		fill_found(&rng, &found, blocks, places, digests);
		PROTO_ENVELOPE(envelope, FOUND, found, &found);
		size_t size = codec_packed_size(&envelope);
		assert_int_equal(codec_pack(&envelope, ours), size);
		size_t library_size = wire__envelope__pack(&envelope, theirs);
		assert_int_equal(size, library_size);
		Wire__Envelope *read = wire__envelope__unpack(NULL, size, ours);
		assert_non_null(read);
		assert_int_equal(wire__envelope__pack(read, again), size);
		assert_memory_equal(again, theirs, size);
		wire__envelope__free_unpacked(read, NULL);
	}
}

static void found_has_the_fields_that_are_packed_by_hand(void **state)
{
	assert_int_equal(wire__found_block__descriptor.n_fields, 4);
	assert_int_equal(wire__place__descriptor.n_fields, 5);
	assert_int_equal(WIRE__ENVELOPE__BODY_FOUND, 41);
	assert_int_equal(protobuf_c_message_descriptor_get_field_by_name(&wire__found__descriptor, "blocks")->id, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(message_comes_back_as_it_went),
		cmocka_unit_test(missing_parts_and_broken_limits_are_named),
		cmocka_unit_test(another_version_is_refused_as_such),
		cmocka_unit_test(memory_is_bounded_by_the_arena),
		cmocka_unit_test(damaged_frames_are_refused_or_whole),
		cmocka_unit_test(sampling_out_of_range_names_the_field),
		cmocka_unit_test(too_many_stop_tokens_or_biases_are_refused),
		cmocka_unit_test(a_frame_over_its_limit_is_not_looked_at),
		cmocka_unit_test(any_arena_is_enough_or_too_small),
		cmocka_unit_test(found_packed_by_hand_is_what_the_library_reads),
		cmocka_unit_test(found_has_the_fields_that_are_packed_by_hand),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
