/* tensor_rows - rows of a stored tensor in the type that the engine computes with.
 *
 * Pure.  F16 becomes f32 exactly.  F8_E4M3 times the scale of its block of 128 x 128, a product in f32, is rounded to
 * bf16: what transformers makes of such weights where they are not computed with as they are.  MXFP4 times its power of two
 * is a bf16, exactly, down to the least scale; above 2^125 the greatest codes become infinity, and a scale of 255 is no
 * number, as its format says. */
#ifndef ENGINE_TENSOR_ROWS_H
#define ENGINE_TENSOR_ROWS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "kernels/ops.h"

struct tensor;
struct tensor_found;

/* Elements [first, first + count) of a tensor of BF16, F16 or F32. */
void tensor_widen(const struct tensor *tensor, uint64_t first, size_t count, float *ret_wide);

/* The tensor's data are rows of elem as they lie. */
bool tensor_rows_plain(const struct tensor_found *found, enum elem elem);
/* Rows [first, first + count) of a matrix (of a stack: of the expert's), [count][columns] of elem; F8_E4M3 and MXFP4 only
 * for bf16, F16 only for f32. */
void tensor_rows_read(const struct tensor_found *found, enum elem elem, uint64_t first, uint32_t count, void *ret_rows);
#endif
