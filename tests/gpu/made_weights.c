#include "tests/gpu/made_weights.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>

#include "base/bf16.h"
#include "base/e4m3.h"
#include "model/tensors.h"
#include "tests/kernels/fixture.h"
#include "tests/scratch.h"

enum { TENSORS_MAX = 512, NAME_MAX_BYTES = 160, GAP = 24 /* between tensors: they begin where no page does */ };

struct weights {
	const struct model_config *config;
	struct tensor tensors[TENSORS_MAX]; /* [count] in the order of their names */
	char names[TENSORS_MAX][NAME_MAX_BYTES];
	size_t count;
	uint8_t *bytes;
	size_t length, room;
	char path[128];
};

/* --- numbers --------------------------------------------------------------------------------------------- */

/* Of numbers within +-scale, but for norms, which are about 1. */
struct kind {
	float middle, scale;
};

static struct kind kind_of(const struct model_config *config, const struct tensor_spec *spec)
{
	switch (spec->role) {
	case TENSOR_FINAL_NORM:
	case TENSOR_ATTENTION_NORM:
	case TENSOR_ATTENTION_POST_NORM:
	case TENSOR_MLP_NORM:
	case TENSOR_MLP_POST_NORM:
	case TENSOR_Q_NORM:
	case TENSOR_K_NORM:
		return (struct kind){config->norm_plus_one ? 0.0f : 1.0f, 0.2f};
	case TENSOR_EMBEDDING:
		return (struct kind){0, 1.0f};
	case TENSOR_ROUTER:
		return (struct kind){0, 4.0f / sqrtf((float)spec->dims[1])};
	case TENSOR_SINKS:
		return (struct kind){0, 2.0f};
	default:
		return (struct kind){0, spec->dim_count == 1 ? 0.2f : sqrtf(3.0f / (float)spec->dims[1])};
	}
}

static void put(uint8_t *to, enum tensor_dtype dtype, float value)
{
	uint16_t half = bf16_round(value);
	if (dtype == TENSOR_BF16)
		memcpy(to, &half, sizeof(half));
	else
		memcpy(to, &value, sizeof(value));
}

/* --- tensors --------------------------------------------------------------------------------------------- */

/* Room for a tensor; what fills it comes next. */
static uint8_t *add(struct weights *w, const char *name, enum tensor_dtype dtype, const uint64_t *dims, uint32_t dim_count)
{
	struct tensor *tensor = &w->tensors[w->count];
	uint64_t elements = 1;
	assert_true(w->count < TENSORS_MAX && strlen(name) < NAME_MAX_BYTES);
	*tensor = (struct tensor){.name = strcpy(w->names[w->count++], name), .dtype = dtype, .dim_count = dim_count,
				  .shard_offset = w->length + GAP};
	for (uint32_t i = 0; i < dim_count; i++)
		elements *= tensor->dims[i] = dims[i];
	tensor->bytes = elements * tensor_dtype_bytes(dtype);
	w->length = tensor->shard_offset + tensor->bytes;
	while (w->room < w->length) {
		w->room = w->room ? 2 * w->room : 1 << 20;
		w->bytes = realloc(w->bytes, w->room);
		assert_non_null(w->bytes);
	}
	return w->bytes + tensor->shard_offset;
}

/* With a scale for each block, which brings the greatest weight to the greatest code but one. */
static void add_e4m3(struct weights *w, const struct tensor_spec *spec, struct rng *rng, struct kind kind)
{
	char name[NAME_MAX_BYTES];
	uint64_t count = spec->dims[0] * spec->dims[1], blocks[2];
	uint8_t *codes = add(w, spec->name, TENSOR_F8_E4M3, spec->dims, 2);
	for (uint64_t i = 0; i < count; i++)
		codes[i] = e4m3_round(416.0f * random_float(rng));
	for (int i = 0; i < 2; i++)
		blocks[i] = (spec->dims[i] + TENSOR_SCALE_BLOCK - 1) / TENSOR_SCALE_BLOCK;
	snprintf(name, sizeof(name), "%s_scale_inv", spec->name);
	uint8_t *scales = add(w, name, TENSOR_F32, blocks, 2);
	for (uint64_t i = 0; i < blocks[0] * blocks[1]; i++)
		put(scales + i * sizeof(float), TENSOR_F32, kind.scale / 416.0f * (1.0f + 0.2f * random_float(rng)));
}

static bool has_blocks(const struct model_config *config, const struct tensor_spec *spec)
{
	return config->fp8_blocks && spec->dim_count == 2 && spec->stack == 0 && spec->role != TENSOR_EMBEDDING &&
	       spec->role != TENSOR_HEAD && spec->role != TENSOR_ROUTER && spec->role != TENSOR_SHARED_GATE;
}

/* A stack of experts is one tensor, [expert][inputs][outputs] or [expert][outputs]. */
static enum err add_spec(void *arg, const struct tensor_spec *spec)
{
	struct weights *w = arg;
	struct rng rng = {.seed = 1000 + w->count};
	struct kind kind = kind_of(w->config, spec);
	enum tensor_dtype dtype = spec->role == TENSOR_ROUTER_CHOICE_BIAS ? TENSOR_F32 : model_tensor_dtype(w->config);
	uint64_t dims[3] = {spec->dims[0], spec->dims[1]}, count = 1;
	uint32_t dim_count = spec->dim_count;
	if (spec->stack > 0 && spec->expert > 0)
		return ERR_OK;
	if (has_blocks(w->config, spec)) {
		add_e4m3(w, spec, &rng, kind);
		return ERR_OK;
	}
	if (spec->stack > 0) {
		dims[2] = spec->dims[0];
		dims[1] = dim_count == 2 ? spec->dims[1] : spec->dims[0];
		dims[0] = spec->stack;
		dim_count++;
	}
	for (uint32_t i = 0; i < dim_count; i++)
		count *= dims[i];
	uint8_t *to = add(w, spec->name, dtype, dims, dim_count);
	for (uint64_t i = 0; i < count; i++)
		put(to + i * tensor_dtype_bytes(dtype), dtype, kind.middle + kind.scale * random_float(&rng));
	return ERR_OK;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

struct weights *made_weights(const struct model_config *config)
{
	struct weights *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	w->config = config;
	assert_int_equal(model_tensors_each(config, add_spec, w), ERR_OK);
	for (size_t i = 0; i < w->count; i++)
		w->tensors[i].data = w->bytes + w->tensors[i].shard_offset;
	qsort(w->tensors, w->count, sizeof(*w->tensors), by_name);
	int fd = scratch_file(w->path, sizeof(w->path), "made-weights");
	assert_true(fd >= 0);
	for (size_t at = 0; at < w->length;) {
		ssize_t wrote = write(fd, w->bytes + at, w->length - at);
		assert_true(wrote > 0);
		at += (size_t)wrote;
	}
	close(fd);
	return w;
}

/* --- as model/safetensors.h has them, as far as the engine asks ---------------------------------------------- */

void weights_close(struct weights *weights)
{
	unlink(weights->path);
	free(weights->bytes);
	free(weights);
}

const struct tensor *weights_find(const struct weights *weights, const char *name)
{
	for (size_t i = 0; i < weights->count; i++)
		if (strcmp(weights->tensors[i].name, name) == 0)
			return &weights->tensors[i];
	return NULL;
}

enum err weights_want(const struct weights *weights, const char *name, enum tensor_dtype dtype, uint32_t dim_count, const uint64_t *dims,
		      struct why *why, const struct tensor **ret_tensor)
{
	const struct tensor *tensor = weights_find(weights, name);
	if (!tensor)
		return why_set(why, ERR_NOT_FOUND, "%s: it was not made", name);
	if (tensor->dtype != dtype || tensor->dim_count != dim_count || memcmp(tensor->dims, dims, dim_count * sizeof(*dims)) != 0)
		return why_set(why, ERR_MISMATCH, "%s: it was made otherwise", name);
	*ret_tensor = tensor;
	return ERR_OK;
}

size_t weights_count(const struct weights *weights)
{
	return weights->count;
}

const struct tensor *weights_at(const struct weights *weights, size_t index)
{
	return &weights->tensors[index];
}

const char *weights_shard_name(const struct weights *weights, uint32_t shard_index)
{
	return weights->path;
}

enum err weights_shard_open(const struct weights *weights, uint32_t shard_index, int flags, struct why *why, int *ret_fd)
{
	int fd = open(weights->path, O_RDONLY | O_CLOEXEC | flags);
	if (fd < 0)
		return why_set(why, flags && errno == EINVAL ? ERR_UNSUPPORTED : ERR_IO, "%s: %s", weights->path, strerror(errno));
	*ret_fd = fd;
	return ERR_OK;
}

uint32_t tensor_dtype_bytes(enum tensor_dtype dtype)
{
	static const uint8_t bits[] = {
#define X(name, bits) bits,
		TENSOR_DTYPE_MAP(X)
#undef X
	};
	return bits[dtype] / 8;
}
