/* f32_copy - a model directory once more with its weights in f32: the same numbers, computed without rounding.
 *
 * For references that transformers computes in f32 from stored bf16, f16 or MXFP4. */
#ifndef TESTS_ENGINE_F32_COPY_H
#define TESTS_ENGINE_F32_COPY_H

/* Writes config.json (with the other torch_dtype), tokenizer.json and model.safetensors into the folder `to`, which is
 * there.  Aborts when something fails. */
void f32_copy(const char *from, const char *to);
#endif
