#include "model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/json_in.h"

#define HEADER_BYTES_MAX ((uint64_t)100 << 20)
#define INDEX_BYTES_MAX  ((size_t)64 << 20)
#define TENSORS_MAX      1000000
#define SHARDS_MAX       1024
#define NAME_BYTES_MAX   512

struct shard {
	char *name; /* file name in the directory; "memory" for weights_parse() */
	char *path; /* NULL: memory */
	const uint8_t *data;
	size_t length;
	struct stat stat; /* of the file when it was mapped */
	json_t *header; /* the tensors' names live in it */
};

struct weights {
	struct shard *shards;
	uint32_t shard_count;
	struct tensor *tensors; /* sorted by name */
	size_t tensor_count;
};

static const struct {
	const char *name;
	uint32_t bytes;
} dtypes[] = {
#define X(name, bits) {#name, bits / 8},
	TENSOR_DTYPE_MAP(X)
#undef X
};

const char *tensor_dtype_name(enum tensor_dtype dtype)
{
	return dtypes[dtype].name;
}

uint32_t tensor_dtype_bytes(enum tensor_dtype dtype)
{
	return dtypes[dtype].bytes;
}

static bool read_dtype(const json_t *value, enum tensor_dtype *ret_dtype)
{
	const char *name = json_string_value(value);
	for (size_t i = 0; name && i < sizeof(dtypes) / sizeof(dtypes[0]); i++)
		if (strcmp(dtypes[i].name, name) == 0) {
			*ret_dtype = (enum tensor_dtype)i;
			return true;
		}
	return false;
}

static bool read_u64(const json_t *value, uint64_t *ret)
{
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return false;
	*ret = (uint64_t)json_integer_value(value);
	return true;
}

static bool read_shape(const json_t *shape, struct tensor *tensor)
{
	if (!json_is_array(shape) || json_array_size(shape) > TENSOR_DIMS_MAX)
		return false;
	uint64_t bytes = tensor_dtype_bytes(tensor->dtype);
	tensor->dim_count = (uint32_t)json_array_size(shape);
	for (uint32_t i = 0; i < tensor->dim_count; i++)
		if (!read_u64(json_array_get(shape, i), &tensor->dims[i]) ||
		    __builtin_mul_overflow(bytes, tensor->dims[i], &bytes))
			return false;
	tensor->bytes = bytes;
	return true;
}

/* One entry of the header: {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}. */
static enum err read_tensor(const struct shard *shard, uint64_t base, const char *name, const json_t *entry,
			    struct why *why, struct tensor *tensor)
{
	tensor->name = name;
	if (strlen(name) > NAME_BYTES_MAX)
		return why_set(why, ERR_TOO_LARGE, "%s: a tensor's name is over %d bytes", shard->name, NAME_BYTES_MAX);
	const char *dtype_text = json_string_value(json_object_get(entry, "dtype"));
	if (!read_dtype(json_object_get(entry, "dtype"), &tensor->dtype))
		return why_set(why, ERR_UNSUPPORTED, "%s: tensor %s: dtype \"%.40s\" is unknown, expected BF16, F32 or the like",
			       shard->name, name, dtype_text ? dtype_text : "");
	if (!read_shape(json_object_get(entry, "shape"), tensor))
		return why_set(why, ERR_INVALID,
			       "%s: tensor %s: shape is wrong, expected up to %d sizes whose product fits 64 bits",
			       shard->name, name, TENSOR_DIMS_MAX);
	const json_t *offsets = json_object_get(entry, "data_offsets");
	uint64_t begin, end, room = shard->length - base;
	if (json_array_size(offsets) != 2 || !read_u64(json_array_get(offsets, 0), &begin) ||
	    !read_u64(json_array_get(offsets, 1), &end) || begin > end || end > room)
		return why_set(why, ERR_CORRUPT, "%s: tensor %s: data_offsets lie outside the file's %llu bytes of data",
			       shard->name, name, (unsigned long long)room);
	if (end - begin != tensor->bytes)
		return why_set(why, ERR_CORRUPT, "%s: tensor %s: has %llu bytes, its shape and dtype need %llu",
			       shard->name, name, (unsigned long long)(end - begin),
			       (unsigned long long)tensor->bytes);
	tensor->data = shard->data + base + begin;
	tensor->shard_offset = base + begin;
	return ERR_OK;
}

static int by_place(const void *a, const void *b)
{
	const struct tensor *x = a, *y = b;
	if (x->shard_offset != y->shard_offset)
		return x->shard_offset < y->shard_offset ? -1 : 1;
	return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

/* Rule 1, for the tensors of one shard. */
static enum err check_overlap(const struct shard *shard, struct tensor *tensors, size_t count, struct why *why)
{
	qsort(tensors, count, sizeof(*tensors), by_place);
	for (size_t i = 1; i < count; i++)
		if (tensors[i - 1].shard_offset + tensors[i - 1].bytes > tensors[i].shard_offset)
			return why_set(why, ERR_CORRUPT, "%s: tensors %s and %s overlap", shard->name,
				       tensors[i - 1].name, tensors[i].name);
	return ERR_OK;
}

static enum err read_header(struct shard *shard, struct why *why, uint64_t *ret_base)
{
	uint64_t length = 0;
	if (shard->length < 8)
		return why_set(why, ERR_CORRUPT, "%s: %zu bytes, expected a safetensors file", shard->name,
			       shard->length);
	for (int i = 7; i >= 0; i--)
		length = length << 8 | shard->data[i];
	if (length > HEADER_BYTES_MAX || length > shard->length - 8)
		return why_set(why, ERR_CORRUPT, "%s: header of %llu bytes, expected at most %llu", shard->name,
			       (unsigned long long)length,
			       (unsigned long long)(HEADER_BYTES_MAX < shard->length - 8 ? HEADER_BYTES_MAX
										       : shard->length - 8));
	*ret_base = 8 + length;
	return json_in_parse((const char *)shard->data + 8, (size_t)length, shard->name, why, &shard->header);
}

static enum err read_shard(struct weights *weights, uint32_t shard_index, struct why *why)
{
	struct shard *shard = &weights->shards[shard_index];
	uint64_t base = 0;
	enum err e = read_header(shard, why, &base);
	if (e != ERR_OK)
		return e;
	size_t more = json_object_size(shard->header);
	if (more > TENSORS_MAX - weights->tensor_count)
		return why_set(why, ERR_TOO_LARGE, "%s: over %d tensors", shard->name, TENSORS_MAX);
	struct tensor *tensors = realloc(weights->tensors, (weights->tensor_count + more + 1) * sizeof(*tensors));
	if (!tensors)
		return ERR_NOMEM;
	weights->tensors = tensors;
	tensors += weights->tensor_count;
	size_t count = 0;
	const char *name;
	json_t *entry;
	json_object_foreach(shard->header, name, entry) {
		if (strcmp(name, "__metadata__") == 0)
			continue;
		tensors[count] = (struct tensor){.shard_index = shard_index};
		e = read_tensor(shard, base, name, entry, why, &tensors[count]);
		if (e != ERR_OK)
			return e;
		count++;
	}
	weights->tensor_count += count;
	return check_overlap(shard, tensors, count, why);
}

static enum err sort_by_name(struct weights *weights, struct why *why)
{
	qsort(weights->tensors, weights->tensor_count, sizeof(*weights->tensors), by_name);
	for (size_t i = 1; i < weights->tensor_count; i++)
		if (strcmp(weights->tensors[i - 1].name, weights->tensors[i].name) == 0)
			return why_set(why, ERR_CORRUPT, "tensor %s is in both %s and %s", weights->tensors[i].name,
				       weights->shards[weights->tensors[i - 1].shard_index].name,
				       weights->shards[weights->tensors[i].shard_index].name);
	return ERR_OK;
}

static enum err open_file(const char *path, int flags, struct why *why, int *ret_fd)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | flags); /* a pipe would wait for its writer */
	if (fd < 0 && flags && errno == EINVAL)
		return ERR_UNSUPPORTED;
	if (fd < 0)
		return why_set(why, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", path, strerror(errno));
	*ret_fd = fd;
	return ERR_OK;
}

static enum err map_file(const char *path, struct why *why, struct shard *shard)
{
	int fd;
	enum err e = open_file(path, 0, why, &fd);
	if (e != ERR_OK)
		return e;
	struct stat st;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < 8) {
		e = why_set(why, ERR_CORRUPT, "%s: expected a safetensors file", path);
	} else {
		void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
		if (data == MAP_FAILED) {
			e = why_set(why, ERR_IO, "%s: mmap: %s", path, strerror(errno));
		} else {
			shard->data = data;
			shard->length = (size_t)st.st_size;
			shard->stat = st;
		}
	}
	close(fd);
	return e;
}

static enum err add_shard(struct weights *weights, const char *dir, const char *name, struct why *why)
{
	if (weights->shard_count == SHARDS_MAX)
		return why_set(why, ERR_TOO_LARGE, "%s: over %d shards", dir, SHARDS_MAX);
	if (strchr(name, '/') || name[0] == '.' || !name[0])
		return why_set(why, ERR_INVALID, "%s: shard \"%s\" is no plain file name", dir, name);
	struct shard *shard = &weights->shards[weights->shard_count];
	char path[4096];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	shard->name = strdup(name);
	shard->path = strdup(path);
	weights->shard_count++;
	if (!shard->name || !shard->path)
		return ERR_NOMEM;
	enum err e = map_file(path, why, shard);
	if (e == ERR_OK)
		e = read_shard(weights, weights->shard_count - 1, why);
	return e;
}

static bool has_shard(const struct weights *weights, const char *name)
{
	for (uint32_t i = 0; i < weights->shard_count; i++)
		if (strcmp(weights->shards[i].name, name) == 0)
			return true;
	return false;
}

/* What the index promises is what the shards hold, tensor by tensor. */
static enum err check_index(const struct weights *weights, const json_t *map, struct why *why)
{
	const char *name;
	json_t *file;
	json_object_foreach((json_t *)map, name, file) {
		const struct tensor *tensor = weights_find(weights, name);
		if (!tensor || strcmp(weights->shards[tensor->shard_index].name, json_string_value(file)) != 0)
			return why_set(why, ERR_CORRUPT, "model.safetensors.index.json: tensor %s is not in %s", name,
				       json_string_value(file));
	}
	if (json_object_size(map) == weights->tensor_count)
		return ERR_OK;
	for (size_t i = 0; i < weights->tensor_count; i++)
		if (!json_object_get(map, weights->tensors[i].name))
			return why_set(why, ERR_CORRUPT, "%s: tensor %s is not in model.safetensors.index.json",
				       weights->shards[weights->tensors[i].shard_index].name,
				       weights->tensors[i].name);
	return ERR_OK;
}

static enum err open_sharded(struct weights *weights, const char *dir, const char *json, size_t length,
			     struct why *why)
{
	json_t *index = NULL;
	enum err e = json_in_parse(json, length, "model.safetensors.index.json", why, &index);
	if (e != ERR_OK)
		return e;
	const json_t *map = json_object_get(index, "weight_map");
	if (!json_is_object(map))
		e = why_set(why, ERR_INVALID, "model.safetensors.index.json: weight_map is missing, expected an object");
	const char *name;
	json_t *file;
	json_object_foreach((json_t *)map, name, file) {
		if (e != ERR_OK)
			break;
		if (!json_is_string(file))
			e = why_set(why, ERR_INVALID,
				    "model.safetensors.index.json: weight_map: %s: expected a file name", name);
		else if (!has_shard(weights, json_string_value(file)))
			e = add_shard(weights, dir, json_string_value(file), why);
	}
	if (e == ERR_OK)
		e = sort_by_name(weights, why);
	if (e == ERR_OK)
		e = check_index(weights, map, why);
	json_decref(index);
	return e;
}

static struct weights *weights_new(void)
{
	struct weights *weights = calloc(1, sizeof(*weights));
	if (weights)
		weights->shards = calloc(SHARDS_MAX, sizeof(*weights->shards));
	if (weights && weights->shards)
		return weights;
	free(weights);
	return NULL;
}

enum err weights_open(const char *dir, struct why *why, struct weights **ret_weights)
{
	struct weights *weights = weights_new();
	if (!weights)
		return ERR_NOMEM;
	char path[4096], *json = NULL;
	size_t length = 0;
	snprintf(path, sizeof(path), "%s/model.safetensors.index.json", dir);
	enum err e = file_read(path, INDEX_BYTES_MAX, why, &json, &length);
	if (e == ERR_OK) {
		e = open_sharded(weights, dir, json, length, why);
		free(json);
	} else if (e == ERR_NOT_FOUND) {
		e = add_shard(weights, dir, "model.safetensors", why);
		if (e == ERR_OK)
			e = sort_by_name(weights, why);
	}
	if (e != ERR_OK) {
		weights_close(weights);
		return e;
	}
	*ret_weights = weights;
	return ERR_OK;
}

enum err weights_parse(const void *data, size_t length, struct why *why, struct weights **ret_weights)
{
	struct weights *weights = weights_new();
	if (!weights)
		return ERR_NOMEM;
	weights->shard_count = 1;
	weights->shards[0] = (struct shard){.name = strdup("memory"), .data = data, .length = length};
	enum err e = weights->shards[0].name ? read_shard(weights, 0, why) : ERR_NOMEM;
	if (e == ERR_OK)
		e = sort_by_name(weights, why);
	if (e != ERR_OK) {
		weights_close(weights);
		return e;
	}
	*ret_weights = weights;
	return ERR_OK;
}

void weights_close(struct weights *weights)
{
	if (!weights)
		return;
	for (uint32_t i = 0; i < weights->shard_count; i++) {
		struct shard *shard = &weights->shards[i];
		if (shard->path && shard->data)
			munmap((void *)shard->data, shard->length);
		json_decref(shard->header);
		free(shard->path);
		free(shard->name);
	}
	free(weights->shards);
	free(weights->tensors);
	free(weights);
}

const struct tensor *weights_find(const struct weights *weights, const char *name)
{
	struct tensor key = {.name = name};
	if (weights->tensor_count == 0)
		return NULL;
	return bsearch(&key, weights->tensors, weights->tensor_count, sizeof(key), by_name);
}

static void print_shape(char *text, size_t room, uint32_t dim_count, const uint64_t *dims)
{
	size_t used = (size_t)snprintf(text, room, "[");
	for (uint32_t i = 0; i < dim_count && used < room; i++)
		used += (size_t)snprintf(text + used, room - used, "%s%llu", i ? ", " : "",
					 (unsigned long long)dims[i]);
	if (used < room)
		snprintf(text + used, room - used, "]");
}

enum err weights_want(const struct weights *weights, const char *name, enum tensor_dtype dtype,
		      uint32_t dim_count, const uint64_t *dims, struct why *why, const struct tensor **ret_tensor)
{
	const struct tensor *tensor = weights_find(weights, name);
	char got[128], expected[128];
	print_shape(expected, sizeof(expected), dim_count, dims);
	if (!tensor)
		return why_set(why, ERR_NOT_FOUND, "tensor %s is missing, expected %s %s", name,
			       tensor_dtype_name(dtype), expected);
	print_shape(got, sizeof(got), tensor->dim_count, tensor->dims);
	if (tensor->dtype != dtype || tensor->dim_count != dim_count ||
	    memcmp(tensor->dims, dims, dim_count * sizeof(dims[0])) != 0)
		return why_set(why, ERR_MISMATCH, "%s: tensor %s is %s %s, expected %s %s",
			       weights->shards[tensor->shard_index].name, name, tensor_dtype_name(tensor->dtype), got,
			       tensor_dtype_name(dtype), expected);
	*ret_tensor = tensor;
	return ERR_OK;
}

size_t weights_count(const struct weights *weights)
{
	return weights->tensor_count;
}

const struct tensor *weights_at(const struct weights *weights, size_t index)
{
	return &weights->tensors[index];
}

uint32_t weights_shard_count(const struct weights *weights)
{
	return weights->shard_count;
}

const char *weights_shard_name(const struct weights *weights, uint32_t shard_index)
{
	return weights->shards[shard_index].name;
}

/* Neither replaced nor written to since. */
static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

enum err weights_shard_open(const struct weights *weights, uint32_t shard_index, int flags, struct why *why, int *ret_fd)
{
	const struct shard *shard = &weights->shards[shard_index];
	struct stat st;
	int fd;
	if (!shard->path)
		return why_set(why, ERR_INVALID, "%s: these weights are of no file", shard->name);
	enum err e = open_file(shard->path, flags, why, &fd);
	if (e != ERR_OK)
		return e;
	if (fstat(fd, &st) != 0 || !same_file(&st, &shard->stat)) {
		close(fd);
		return why_set(why, ERR_CORRUPT, "%s: was changed since it was opened, expected the same %llu bytes", shard->path,
			       (unsigned long long)shard->length);
	}
	*ret_fd = fd;
	return ERR_OK;
}
