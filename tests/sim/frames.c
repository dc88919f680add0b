/* frames - what is said between nodes: whether a claim about bytes is true, and one line a frame for a story. */
#include "tests/sim/cluster_impl.h"

/* A place with digests is a promise: as long as the slot is of that generation, its bytes are these. */
static void check_claim(struct cluster *c, uint32_t from, const Wire__Place *place, uint32_t first_layer,
			const uint64_t *digests, size_t layers)
{
	struct member *m = &c->members[from];
	for (size_t i = 0; i < layers; i++) {
		uint64_t generation;
		const uint8_t *bytes = member_ops.memory(m, place->region, place->offset + (first_layer + i) * TOY_LAYER_BYTES,
							 TOY_LAYER_BYTES, &generation);
		if (bytes && generation == place->generation && toy_digest(bytes, TOY_LAYER_BYTES) != digests[i])
			cluster_fail(c, "I7: %s claims a block (offset %llu, generation %llu, digest %llx) whose layer %zu is other bytes",
				     m->name, (unsigned long long)place->offset, (unsigned long long)generation, (unsigned long long)digests[i],
				     first_layer + i);
	}
}

void cluster_check_claims(struct cluster *c, uint32_t from, const Wire__Envelope *e)
{
	if (e->body_case == WIRE__ENVELOPE__BODY_FOUND)
		for (size_t i = 0; i < e->found->n_blocks; i++)
			check_claim(c, from, e->found->blocks[i]->place, 0, e->found->blocks[i]->digests,
				    e->found->blocks[i]->n_digests);
	if (e->body_case == WIRE__ENVELOPE__BODY_OFFER)
		check_claim(c, from, e->offer->place, 0, e->offer->digests, e->offer->n_digests);
	if (e->body_case == WIRE__ENVELOPE__BODY_ANNOUNCE)
		for (size_t i = 0; i < e->announce->n_places; i++)
			check_claim(c, from, e->announce->places[i], e->announce->layer, &e->announce->digests[i], 1);
}

void cluster_note_frame(struct cluster *c, uint32_t from, uint32_t to, const Wire__Envelope *e)
{
	const char *who = c->members[from].name;
#define JOB(job) (unsigned long long)(job)->number, (job)->attempt
	switch (e->body_case) {
	case WIRE__ENVELOPE__BODY_RESERVE:
		sim_note(c->sim, to, "  %s: Reserve %llu.%u half %d, %zu tokens, prompt %u, choices %zu from %u, seed %llx", who,
			 JOB(e->reserve->job), e->reserve->half, e->reserve->n_tokens, e->reserve->prompt_count,
			 e->reserve->n_choices, e->reserve->choices[0], (unsigned long long)e->reserve->sampling->seed);
		break;
	case WIRE__ENVELOPE__BODY_RESERVED:
		sim_note(c->sim, to, "  %s: Reserved %llu.%u half %d: %s", who, JOB(e->reserved->job), e->reserved->half,
			 e->reserved->why);
		break;
	case WIRE__ENVELOPE__BODY_START:
		sim_note(c->sim, to, "  %s: Start %llu.%u", who, JOB(e->start->job));
		break;
	case WIRE__ENVELOPE__BODY_CANCEL:
		sim_note(c->sim, to, "  %s: Cancel %llu.%u one %d choice %u", who, JOB(e->cancel->job), e->cancel->one_choice,
			 e->cancel->choice);
		break;
	case WIRE__ENVELOPE__BODY_TOKENS:
		for (size_t i = 0; i < e->tokens->n_tokens; i++)
			sim_note(c->sim, to, "  %s: Token %llu.%u choice %u position %u: %u, finish %d", who,
				 JOB(e->tokens->tokens[i]->job), e->tokens->tokens[i]->choice,
				 e->tokens->tokens[i]->position, e->tokens->tokens[i]->token,
				 (int)e->tokens->tokens[i]->finish);
		break;
	case WIRE__ENVELOPE__BODY_JOB_END:
		sim_note(c->sim, to, "  %s: JobEnd %llu.%u half %d: %s", who, JOB(e->job_end->job), e->job_end->half,
			 err_name((enum err)e->job_end->error));
		break;
	case WIRE__ENVELOPE__BODY_ATTACH:
		sim_note(c->sim, to, "  %s: Attach %llu.%u has %u", who, JOB(e->attach->job), e->attach->have[0]);
		break;
	case WIRE__ENVELOPE__BODY_ANNOUNCE:
		sim_note(c->sim, to, "  %s: Announce %llu.%u layer %u blocks %u+%zu at %llu digest %llx", who, JOB(e->announce->job),
			 e->announce->layer, e->announce->block_first, e->announce->n_places,
			 (unsigned long long)(e->announce->n_places ? e->announce->places[0]->offset : 0),
			 (unsigned long long)(e->announce->n_places ? e->announce->digests[0] : 0));
		break;
	case WIRE__ENVELOPE__BODY_PREFILLED:
		sim_note(c->sim, to, "  %s: Prefilled %llu.%u", who, JOB(e->prefilled->job));
		break;
	case WIRE__ENVELOPE__BODY_TRANSFER_END:
		sim_note(c->sim, to, "  %s: TransferEnd %llu.%u: %s", who, JOB(e->transfer_end->job),
			 err_name((enum err)e->transfer_end->error));
		break;
	default:
		break;
	}
#undef JOB
}
