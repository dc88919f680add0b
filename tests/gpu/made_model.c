#include "tests/gpu/made_model.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/gpu/made_weights.h"

/* --- families ---------------------------------------------------------------------------------------------- */

static void describe_any(struct model_config *c, const struct model_names *names)
{
	*c = (struct model_config){.family = "made", .names = names, .vocab_size = MADE_VOCABULARY, .hidden_size = 128, .intermediate_size = 256,
				   .layer_count = 2, .position_max = 512, .norm_eps = 1e-5, .activation = MODEL_SILU, .group_count = 1,
				   .bos_id = MODEL_NO_TOKEN};
	c->groups[0].layer_count = 2;
}

static void set_heads(struct model_config *c, uint32_t head_count, uint32_t kv_head_count, uint32_t head_dim)
{
	c->head_count = head_count;
	c->kv_head_count = kv_head_count;
	c->head_dim = head_dim;
	c->score_dim = head_dim;
	for (uint32_t g = 0; g < LAYER_GROUPS_MAX; g++)
		c->groups[g].rope = (struct model_rope){.theta = 10000, .dim = head_dim, .attention_factor = 1, .score_factor = 1};
}

/* The first layer sees a window, the second all. */
static void set_window(struct model_config *c, uint32_t window)
{
	c->group_count = 2;
	c->groups[0].layer_count = c->groups[1].layer_count = 1;
	c->groups[0].window = window;
	c->groups[1].rope.theta = 500000;
	c->layers[1].group = 1;
}

static void set_experts(struct model_config *c, uint32_t count, uint32_t top)
{
	c->experts = (struct model_experts){.count = count, .top = top, .intermediate_size = 128, .renormalise = true, .scale = 1,
					    .group_count = 1, .group_top = 1, .group_best = 1};
	for (uint32_t i = 0; i < c->layer_count; i++)
		c->layers[i].mlp = MODEL_MLP_EXPERTS;
}

#define PLAIN_ATTENTION .prefix = "m.", .attention_norm = "an", .mlp_norm = "mn", .qkv = {"q", "k", "v"}
#define PLAIN_MLP	.gate_up = {"g", "u"}
#define PLAIN_EXPERTS	.experts = "x", .router = "r", .expert_parts = {"g", "u", "d"}

/* Grouped heads, frequencies stretched. */
static void describe_llama(struct model_config *c)
{
	static const struct model_names names = {PLAIN_ATTENTION, PLAIN_MLP};
	describe_any(c, &names);
	set_heads(c, 8, 2, 64);
	struct model_rope *rope = &c->groups[0].rope;
	rope->scaling = MODEL_ROPE_LLAMA3;
	rope->factor = 8, rope->low_freq_factor = 1, rope->high_freq_factor = 4, rope->original_position_max = 64;
	c->qkv_bias = true;
}

/* A window and none, caps, norms before and after, a head that is the embedding. */
static void describe_gemma(struct model_config *c)
{
	static const struct model_names names = {PLAIN_ATTENTION, PLAIN_MLP, .attention_post_norm = "ap", .mlp_post_norm = "mp"};
	describe_any(c, &names);
	set_heads(c, 4, 2, 128);
	set_window(c, 24);
	c->qk_norm = c->norm_plus_one = c->embedding_scaled = c->tie_word_embeddings = true;
	c->activation = MODEL_GELU_TANH;
	c->score_cap = 20, c->logit_cap = 15;
}

/* Sinks, and experts with biases in stacks. */
static void describe_gpt_oss(struct model_config *c)
{
	static const struct model_names names = {PLAIN_ATTENTION, .experts = "x", .router = "r", .expert_stacks = {"e.gu", "e.d"}};
	describe_any(c, &names);
	set_heads(c, 8, 1, 64);
	set_window(c, 24);
	set_experts(c, 8, 2);
	c->sinks = c->qkv_bias = c->o_bias = true;
	c->experts.bias = c->experts.interleaved = true;
	c->activation = MODEL_SWIGLU_CLAMPED;
	c->glu_alpha = 1.702, c->glu_limit = 7;
}

/* A head of 256, some of which turns; experts beside one that all ask, through a gate. */
static void describe_qwen(struct model_config *c)
{
	static const struct model_names names = {PLAIN_ATTENTION, PLAIN_EXPERTS, .shared = "s", .shared_gate = "sg"};
	describe_any(c, &names);
	set_heads(c, 2, 1, 256);
	set_experts(c, 8, 3);
	c->groups[0].rope.dim = 64;
	c->qk_norm = true;
	c->experts.shared_intermediate_size = 128;
	c->experts.shared_gate = true;
}

/* Latents of the published size; a dense layer, then experts in groups. */
static void describe_deepseek(struct model_config *c)
{
	static const struct model_names names = {PLAIN_ATTENTION, PLAIN_MLP, PLAIN_EXPERTS, .shared = "s"};
	describe_any(c, &names);
	set_heads(c, 4, 4, 128);
	c->attention = MODEL_ATTENTION_LATENT;
	c->latent = (struct model_latent){.q_lora_rank = 128, .kv_lora_rank = 512, .qk_nope_head_dim = 64, .qk_rope_head_dim = 64,
					  .v_head_dim = 64, .interleaved = true};
	c->groups[0].rope.dim = 64;
	set_experts(c, 8, 2);
	c->layers[0].mlp = MODEL_MLP_DENSE;
	c->experts.routing = MODEL_ROUTING_SIGMOID;
	c->experts.group_count = 4, c->experts.group_top = 2, c->experts.group_best = 2;
	c->experts.scale = 2.5;
	c->experts.shared_intermediate_size = 128;
}

const struct made_family made_families[] = {
	{"llama", describe_llama, true}, {"gemma", describe_gemma, false}, {"gpt-oss", describe_gpt_oss, false},
	{"qwen", describe_qwen, false},	 {"deepseek", describe_deepseek, true},
};
const size_t made_family_count = sizeof(made_families) / sizeof(*made_families);

/* --- open and close -------------------------------------------------------------------------------------------- */

static void on_kv(void *context, const struct plan *plan, uint32_t layer)
{
	struct made *m = context;
	assert_int_equal(layer, m->announced++);
}

static struct kv_layout layout_of(const struct model_config *c, uint32_t group, enum elem elem)
{
	bool latent = c->attention == MODEL_ATTENTION_LATENT;
	return (struct kv_layout){.layer_count = c->groups[group].layer_count, .head_kv_count = latent ? 1 : c->kv_head_count,
				  .head_dim = latent ? c->latent.kv_lora_rank + c->latent.qk_rope_head_dim : c->head_dim,
				  .block_tokens = MADE_BLOCK_TOKENS, .elem = elem, .kind = latent ? KV_LATENT : KV_HEADS,
				  .value_dim = latent ? c->latent.kv_lora_rank : 0};
}

static size_t digest_bytes(const struct made *m, uint32_t group)
{
	return (size_t)MADE_BLOCKS * m->config.groups[group].layer_count * sizeof(uint64_t);
}

/* As a node's regions: a file in memory that the device's copies read and write. */
static void open_blocks(struct made *m, uint32_t g)
{
	struct kv_memory *host = &m->host[g];
	host->layout = layout_of(&m->config, g, m->weights->elem);
	host->layer_stride = kv_layer_bytes(&host->layout);
	host->block_stride = kv_block_bytes(&host->layout);
	host->block_first = g * MADE_BLOCKS;
	m->fd[g] = memfd_create("made blocks", MFD_CLOEXEC);
	assert_true(m->fd[g] >= 0 && ftruncate(m->fd[g], (off_t)(MADE_BLOCKS * host->block_stride)) == 0);
	host->base = mmap(NULL, MADE_BLOCKS * host->block_stride, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd[g], 0);
	assert_true(host->base != MAP_FAILED);
	assert_int_equal(dev_alloc(m->device, MEM_PINNED, digest_bytes(m, g), (void **)&m->digests[g]), ERR_OK);
	assert_int_equal(kv_ranks_create(&m->of_ranks[g], &m->ranks, &m->config, host, MADE_BLOCKS, m->config.groups[g].window), ERR_OK);
	assert_int_equal(forward_set_kv(m->forward, g, &m->of_ranks[g], m->digests[g]), ERR_OK);
}

void made_open(struct made *m, struct device *device, const struct made_family *family, enum elem elem)
{
	struct why why = {0};
	*m = (struct made){.device = device, .ranks = {1, {device}}};
	family->describe(&m->config);
	m->config.dtype = elem == ELEM_F32 ? MODEL_F32 : MODEL_BF16;
	m->config.fp8_blocks = m->config.fp8_kept = elem == ELEM_E4M3;
	m->source = made_weights(&m->config);
	if (engine_weights_create(&m->ranks, &m->config, m->source, NULL, &why, &m->weights) != ERR_OK)
		fail_msg("%s: %s", family->name, why.text);
	if (m->config.experts.count > 0)
		assert_int_equal(experts_local_create(&m->ranks, &m->config, &m->weights, MADE_ROWS_MAX, &m->experts), ERR_OK);
	const struct forward_options options = {.ranks = &m->ranks, .config = &m->config, .weights = &m->weights, .rows_max = MADE_ROWS_MAX,
						.experts = m->experts ? experts_local_exchange(m->experts) : NULL, .context = m,
						.on_kv = on_kv};
	assert_int_equal(forward_create(&options, &m->forward), ERR_OK);
	for (uint32_t g = 0; g < m->config.group_count; g++)
		open_blocks(m, g);
}

void made_close(struct made *m)
{
	forward_destroy(m->forward);
	for (uint32_t g = 0; g < m->config.group_count; g++) {
		size_t bytes = MADE_BLOCKS * m->host[g].block_stride;
		kv_ranks_destroy(&m->of_ranks[g]);
		dev_free(m->device, MEM_PINNED, m->digests[g], digest_bytes(m, g));
		munmap(m->host[g].base, bytes);
		close(m->fd[g]);
	}
	experts_local_destroy(m->experts);
	engine_weights_destroy(m->weights);
	weights_close(m->source);
}

/* --- steps ------------------------------------------------------------------------------------------------------ */

void made_sequence_init(struct made_sequence *s, const struct made *m, uint32_t parity, uint32_t token_count)
{
	memset(s, 0, sizeof(*s));
	assert_true(token_count <= sizeof(s->tokens) / sizeof(*s->tokens));
	for (uint32_t i = 0; i < token_count; i++)
		s->tokens[i] = (i * 31 + parity * 7 + i * i % 11) % MADE_VOCABULARY;
	s->sequence = (struct sequence){.tokens = s->tokens, .token_count = token_count, .choice_count = 1};
	for (uint32_t g = 0; g < m->config.group_count; g++) {
		for (uint32_t i = 0; i < MADE_BLOCKS / 2; i++)
			s->blocks[g][i] = g * MADE_BLOCKS + (2 * (i * 3 % (MADE_BLOCKS / 2)) + parity);
		s->sequence.tables[g] = (struct sequence_table){s->blocks[g], 0, MADE_BLOCKS / 2};
	}
}

void made_plan_add(struct plan *plan, struct made_sequence *s, uint32_t first, uint32_t count)
{
	plan->runs[plan->run_count++] = (struct run){.sequence = &s->sequence, .first = first, .count = count, .score_first = first,
						     .score_count = count, .score_index = plan->token_count, .digest = true};
	plan->token_count += count;
	plan->token_bucket = plan_bucket(plan->token_count);
	plan->sample_count = plan->score_count = plan->token_count;
}

void made_step(struct made *m, const struct plan *plan, float *ret_logits)
{
	const float *logits;
	m->announced = 0;
	assert_int_equal(forward_step(m->forward, plan), ERR_OK);
	for (uint32_t first = 0, count; first < plan->token_count; first += count) {
		uint32_t left = plan->token_count - first, most = forward_logits_rows(m->forward);
		count = left < most ? left : most;
		assert_int_equal(forward_logits(m->forward, first, count, &logits), ERR_OK);
		assert_int_equal(dev_copy(m->device, ret_logits + (size_t)first * MADE_VOCABULARY, logits,
					  (size_t)count * MADE_VOCABULARY * sizeof(float)), ERR_OK);
	}
	assert_int_equal(forward_end(m->forward, plan), ERR_OK);
	assert_int_equal(m->announced, m->config.layer_count);
}
