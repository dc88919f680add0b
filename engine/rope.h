/* rope - the frequencies of a model's rotary positions, stretched as it says.
 *
 * Pure.  In f32 and in the order of Hugging Face, which models were trained with; elementary functions are ours
 * (base/exact.h). */
#ifndef ENGINE_ROPE_H
#define ENGINE_ROPE_H

struct model_rope;

/* Radians a position, [rope->dim / 2]. */
void rope_of_model(const struct model_rope *rope, float *ret_frequency);
#endif
