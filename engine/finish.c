#include "engine/finish.h"

static bool is_eos(const struct finish_rules *rules, uint32_t token)
{
	for (uint32_t i = 0; i < rules->eos_count; i++)
		if (rules->eos_ids[i] == token)
			return true;
	return false;
}

enum finish finish_of(const struct finish_rules *rules, const struct sampling *sampling, uint32_t token,
		      uint32_t generated, uint32_t length, uint32_t *ret_stop_index)
{
	*ret_stop_index = 0;
	if (generated > sampling->min_tokens || sampling->structured) {
		for (uint32_t i = 0; i < sampling->stop_id_count; i++) {
			if (sampling->stop_ids[i] != token)
				continue;
			*ret_stop_index = i + 1;
			return FINISH_STOP;
		}
		if (!sampling->ignore_eos && is_eos(rules, token))
			return FINISH_STOP;
	}
	return generated >= sampling->max_tokens || length >= rules->context_max ? FINISH_LENGTH : FINISH_NONE;
}
