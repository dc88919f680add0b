/* load_plan - which bytes of a model's files are read, in what order and in what pieces.
 *
 * Owns:   the list, until load_plan_destroy(); the tensors are those of the weights that it was made of.
 * Pure:   no file is touched.
 * Rules:  1 a lane is one stored tensor from its first byte to its last, with its scales beside it: that is the order that
 *           its digest wants.  Several lanes are read at a time;
 *         2 the longest lanes come first, and those of one length by their place in the files: none is left to run alone
 *           at the end;
 *         3 a piece is rows that the engine can use by themselves: whole blocks of a scale, whole heads of latents, and all
 *           there is where columns are stored. */
#ifndef ENGINE_LOAD_PLAN_H
#define ENGINE_LOAD_PLAN_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "kernels/ops.h"
#include "model/tensors.h"

/* A tensor of the model within its lane: all of the lane, or an expert's share of it. */
struct load_part {
	struct tensor_spec spec;
	struct tensor_found found;
	enum elem elem;         /* that its rows become; of a vector f32, whatever it says */
	uint64_t offset;        /* of its first byte in the stored tensor */
	uint64_t row_bytes;     /* stored; of a vector one number is a row */
	uint64_t row_out_bytes; /* as the engine takes it */
	uint32_t piece_rows;    /* at most; the last piece may be shorter */
};

struct load_lane {
	const struct tensor *tensor;
	const struct tensor *scale; /* or NULL */
	uint32_t part_first, part_count; /* none: read for the digest alone */
};

struct load_plan {
	struct load_part *parts; /* [part_count], those of a lane in the order of their bytes */
	struct load_lane *lanes; /* [lane_count], in the order of reading */
	uint32_t part_count, lane_count;
	uint64_t bytes;           /* that are read */
	uint64_t piece_out_bytes; /* the most that a piece is, as the engine takes it */
	uint64_t piece_raw_bytes; /* the most that is read elsewhere first: to be converted, or for the digest alone */
	uint64_t piece_scale_bytes;
	uint64_t piece_count;
};

/* Bytes of a stored tensor. */
struct load_range {
	uint64_t offset, bytes;
};

struct load_plan_options {
	enum elem elem;       /* that weights become, but those that stay of 8 bits (load_part_elem()) */
	uint64_t piece_bytes; /* aimed at; what rule 3 asks for may be more */
	bool digested;        /* tensors that the model does not use are read too */
};

MUST_USE enum err load_plan_create(const struct model_config *config, const struct weights *weights,
				   const struct load_plan_options *options, struct why *why, struct load_plan **ret_plan);
void load_plan_destroy(struct load_plan *plan); /* NULL is fine */

/* Rows as they are stored, and their scales. */
struct load_range load_part_rows(const struct load_part *part, uint32_t first, uint32_t count);
struct load_range load_part_scales(const struct load_part *part, uint32_t first, uint32_t count);
/* Stored rows are what the engine takes. */
bool load_part_plain(const struct load_part *part);
/* What a tensor's rows become: as the others, or ELEM_E4M3 where model_config.fp8_kept says so and no head is taken apart. */
enum elem load_part_elem(const struct model_config *config, const struct tensor_spec *spec, const struct tensor *stored,
			 enum elem others);
#endif
