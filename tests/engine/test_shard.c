#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "engine/shard.h"
#include "kvstore/shards.h"
#include "model/config.h"

/* Who has what of a model: everything once, or at every rank. */

static struct model_config grouped(uint32_t heads, uint32_t kv_heads)
{
	return (struct model_config){.head_count = heads, .kv_head_count = kv_heads, .head_dim = 16, .intermediate_size = 96,
				     .layer_count = 1, .hidden_size = 64, .vocab_size = 1003};
}

static void ranks_have_the_heads_that_readers_of_blocks_expect(void **state)
{
	for (uint32_t count = 1; count <= 8; count *= 2)
		for (uint32_t kv = 1; kv <= 8; kv *= 2)
			for (uint32_t rank = 0; rank < count; rank++) {
				struct model_config config = grouped(16, kv);
				struct rank_share ours = shard_kv_heads(&config, (struct shard){rank, count});
				struct rank_share heads = shard_heads(&config, (struct shard){rank, count});
				struct kv_heads theirs = kv_shard_heads(kv, count, rank);
				assert_true(ours.first == theirs.first && ours.count == theirs.count);
				/* Every query head finds its KV head here. */
				for (uint32_t h = heads.first; h < heads.first + heads.count; h++)
					assert_true(h / (16 / kv) - ours.first < ours.count);
			}
}

/* Every output is at one rank, or at as many as there are replicas, in order there and without a gap. */
static void outputs_are_shared_out(const struct model_config *config, const struct tensor_spec *spec)
{
	for (uint32_t count = 1; count <= 8; count *= 2) {
		uint32_t seen[4096] = {0};
		for (uint32_t rank = 0; rank < count; rank++) {
			struct shard shard = {rank, count};
			uint32_t next = 0;
			for (uint32_t output = 0; output < spec->total; output++) {
				uint32_t at = shard_output(config, shard, spec, output);
				if (at == SHARD_NONE)
					continue;
				assert_int_equal(at, next++);
				seen[output]++;
			}
			assert_int_equal(next, shard_output_count(config, shard, spec));
		}
		for (uint32_t output = 0; output < spec->total; output++)
			if (seen[output] != 1 && seen[output] != count && seen[output] != shard_replicas(config, count))
				fail_msg("output %u of role %d is at %u of %u ranks", output, spec->role, seen[output], count);
	}
}

static void every_output_is_somewhere(void **state)
{
	struct model_config config = grouped(16, 2);
	const struct tensor_spec specs[] = {
		{.role = TENSOR_HEAD, .total = 1003},	  {.role = TENSOR_QKV, .total = (16 + 4) * 16},
		{.role = TENSOR_GATE_UP, .total = 192},	  {.role = TENSOR_EXPERT_GATE_UP, .total = 192},
		{.role = TENSOR_OUTPUT, .total = 64},	  {.role = TENSOR_ROUTER, .total = 12},
		{.role = TENSOR_SINKS, .total = 16},
	};
	for (size_t i = 0; i < sizeof(specs) / sizeof(*specs); i++)
		outputs_are_shared_out(&config, &specs[i]);
	config.attention = MODEL_ATTENTION_LATENT;
	config.latent = (struct model_latent){.kv_lora_rank = 32, .qk_rope_head_dim = 4, .qk_nope_head_dim = 12, .v_head_dim = 16};
	outputs_are_shared_out(&config, &(struct tensor_spec){.role = TENSOR_QKV, .total = 16 * 16 + 36});
	config.latent.q_lora_rank = 48;
	outputs_are_shared_out(&config, &(struct tensor_spec){.role = TENSOR_QKV, .total = 48 + 36});
	outputs_are_shared_out(&config, &(struct tensor_spec){.role = TENSOR_QUERY_UP, .total = 16 * 16});
}

static void refused(struct model_config config, uint32_t count, uint32_t segments, const char *named)
{
	struct why why = {""};
	assert_int_not_equal(shard_check(&config, count, segments, &why), ERR_OK);
	if (!strstr(why.text, named))
		fail_msg("\"%s\" does not name %s", why.text, named);
}

static void what_does_not_divide_is_named(void **state)
{
	struct model_config config = grouped(8, 2);
	assert_int_equal(shard_check(&config, 8, 8, NULL), ERR_OK);
	refused(config, 3, 8, "expected 1, 2, 4 or 8");
	refused(config, 16, 8, "expected 1, 2, 4 or 8");
	refused(config, 4, 2, "--row-segments 4");
	refused(grouped(12, 3), 2, 8, "3 KV heads");
	refused(grouped(4, 4), 8, 8, "heads, 4");
	config.layers[0].mlp = MODEL_MLP_DENSE;
	config.intermediate_size = 100;
	refused(config, 8, 8, "MLP, 100");
	config.intermediate_size = 96;
	config.experts.intermediate_size = 20;
	refused(config, 8, 8, "expert, 20");
	config.experts.intermediate_size = 24;
	config.experts.shared_intermediate_size = 30;
	refused(config, 4, 8, "shared expert, 30");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranks_have_the_heads_that_readers_of_blocks_expect),
		cmocka_unit_test(every_output_is_somewhere),
		cmocka_unit_test(what_does_not_divide_is_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
