/* make_kv_file PATH LAYER_BYTES COUNT…: a file as `baton kv export` writes it, of blocks of one layer, so many of each size. */
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "tools/kv_file.h"

static enum err add(struct kv_writer *writer, uint32_t number, uint32_t layer_bytes, struct why *why)
{
	uint8_t *bytes = malloc(layer_bytes);
	if (!bytes)
		return ERR_NOMEM;
	memset(bytes, (int)number, layer_bytes);
	uint64_t digest = digest_of(bytes, layer_bytes);
	struct kv_file_block block = {.compat = {{9}}, .layer_count = 1, .layer_bytes = layer_bytes, .digests = &digest, .bytes = bytes};
	memcpy(block.key.bytes, &number, sizeof(number));
	enum err e = kv_writer_add(writer, &block, why);
	free(bytes);
	return e;
}

int main(int argc, char **argv)
{
	struct kv_writer *writer = NULL;
	struct why why = {0};
	uint32_t number = 0;
	enum err e = argc > 1 ? kv_writer_open(argv[1], &writer, &why) : ERR_INVALID;
	for (int i = 2; e == ERR_OK && i + 1 < argc; i += 2)
		for (long count = atol(argv[i + 1]); e == ERR_OK && count > 0; count--)
			e = add(writer, ++number, (uint32_t)atol(argv[i]), &why);
	if (e == ERR_OK)
		e = kv_writer_close(writer, &why);
	if (e != ERR_OK)
		fprintf(stderr, "make_kv_file: %s: %s\n", err_text(e), why.text);
	return e != ERR_OK;
}
