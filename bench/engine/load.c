/* Loading of a model's weights, cold and warm, beside what a map of the files gives: every tensor hashed through the map by one thread, then
 * packed from it by one thread a core.  Runs alternate; the median of each is told, and of the pairs' quotients.
 *
 *     bench_load MODEL_DIR [RUNS] */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/weights.h"
#include "kernels/device.h"
#include "model/model_dir.h"

enum { RUNS_MAX = 99 };

static struct device *device;

static double now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void check(enum err e, const struct why *why)
{
	if (e == ERR_OK)
		return;
	fprintf(stderr, "%s: %s\n", err_text(e), why->text);
	exit(1);
}

static struct model_dir *open_model(const char *path)
{
	struct model_dir *dir;
	struct why why;
	check(model_dir_open(path, NULL, &why, &dir), &why);
	return dir;
}

/* The page cache forgets the files: nothing maps them now. */
static void make_cold(const char *path)
{
	struct model_dir *dir = open_model(path);
	uint32_t count = weights_shard_count(dir->weights);
	char (*paths)[4096] = calloc(count, sizeof(*paths));
	for (uint32_t i = 0; i < count; i++)
		snprintf(paths[i], sizeof(paths[i]), "%s/%s", path, weights_shard_name(dir->weights, i));
	model_dir_close(dir);
	for (uint32_t i = 0; i < count; i++) {
		int fd = open(paths[i], O_RDONLY);
		if (fd < 0 || fsync(fd) != 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
			perror(paths[i]);
		close(fd);
	}
	free(paths);
}

/* What the model's tensors weigh, and into the page cache with them. */
static uint64_t read_all(const char *path)
{
	struct model_dir *dir = open_model(path);
	uint8_t fingerprint[32];
	uint64_t bytes = 0;
	model_dir_fingerprint(dir, NULL, fingerprint);
	for (size_t i = 0; i < weights_count(dir->weights); i++)
		bytes += weights_at(dir->weights, i)->bytes;
	model_dir_close(dir);
	return bytes;
}

/* Seconds. */
static double load_read_run(const char *path, bool hashed)
{
	struct model_dir *dir = open_model(path);
	uint8_t (*digests)[32] = calloc(weights_count(dir->weights), sizeof(*digests)), fingerprint[32];
	struct engine_weights *weights;
	struct why why;
	double began = now();
	check(engine_weights_create(device, &dir->config, dir->weights, hashed ? digests : NULL, &why, &weights), &why);
	if (hashed)
		model_dir_fingerprint(dir, (const uint8_t (*)[32])digests, fingerprint);
	double took = now() - began;
	engine_weights_destroy(weights);
	free(digests);
	model_dir_close(dir);
	return took;
}

struct map_job {
	const struct weights *weights;
	struct linear **linears; /* [tensor]; NULL: no matrix */
	_Atomic size_t next;
};

static void *pack(void *arg)
{
	struct map_job *job = arg;
	size_t i;
	while ((i = atomic_fetch_add(&job->next, 1)) < weights_count(job->weights)) {
		const struct tensor *t = weights_at(job->weights, i);
		if (job->linears[i])
			linear_fill(job->linears[i], 0, (uint32_t)t->dims[0], t->data, t->dims[1]);
	}
	return NULL;
}

static void make_linear(const struct tensor *t, struct linear **ret_linear)
{
	const struct linear_shape shape = {.n = (uint32_t)t->dims[0], .k = (uint32_t)t->dims[1], .elem = ELEM_BF16, .segments = 1};
	struct why why = {"linear_create"};
	if (t->dim_count == 2 && t->dtype == TENSOR_BF16)
		check(linear_create(device, &shape, ret_linear), &why);
}

static double load_map_run(const char *path, bool hashed)
{
	struct model_dir *dir = open_model(path);
	size_t count = weights_count(dir->weights);
	struct map_job job = {dir->weights, calloc(count, sizeof(*job.linears)), 0};
	pthread_t threads[DEVICE_THREADS_MAX];
	uint8_t fingerprint[32];
	double began = now();
	if (hashed)
		model_dir_fingerprint(dir, NULL, fingerprint);
	for (size_t i = 0; i < count; i++)
		make_linear(weights_at(dir->weights, i), &job.linears[i]);
	for (uint32_t i = 0; i < device_props(device)->thread_count; i++)
		pthread_create(&threads[i], NULL, pack, &job);
	for (uint32_t i = 0; i < device_props(device)->thread_count; i++)
		pthread_join(threads[i], NULL);
	double took = now() - began;
	for (size_t i = 0; i < count; i++)
		linear_destroy(job.linears[i]);
	free(job.linears);
	model_dir_close(dir);
	return took;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static double median(double *values, int count)
{
	qsort(values, (size_t)count, sizeof(*values), by_value);
	return values[count / 2];
}

static void compare(const char *path, uint64_t bytes, bool cold, bool hashed, int runs)
{
	double map[RUNS_MAX], reader[RUNS_MAX], quotient[RUNS_MAX];
	for (int i = 0; i < runs; i++) {
		for (int turn = 0; turn < 2; turn++) {
			if (cold)
				make_cold(path);
			if ((turn + i) % 2)
				map[i] = load_map_run(path, hashed);
			else
				reader[i] = load_read_run(path, hashed);
		}
		quotient[i] = map[i] / reader[i];
	}
	double gb = (double)bytes / 1e9, m = median(map, runs), r = median(reader, runs);
	printf("| %s | %s | %.2f s, %.2f GB/s | %.2f s, %.2f GB/s | %.2f |\n", cold ? "cold" : "warm", hashed ? "yes" : "no", m, gb / m, r,
	       gb / r, median(quotient, runs));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	int runs = argc > 2 ? atoi(argv[2]) : 7;
	struct why why;
	const struct device_options options = {.kind = DEVICE_CPU};
	if (argc < 2 || runs < 1 || runs > RUNS_MAX) {
		fprintf(stderr, "usage: bench_load MODEL_DIR [RUNS 1..%d]: a model of bf16\n", RUNS_MAX);
		return 2;
	}
	check(device_open(&options, &why, &device), &why);
	uint64_t bytes = read_all(argv[1]);
	printf("%.2f GB, %d pairs, %s, %u threads\n\n| page cache | fingerprint | map | reader | times as fast |\n"
	       "| --- | --- | --: | --: | --: |\n",
	       (double)bytes / 1e9, runs, device_props(device)->name, device_props(device)->thread_count);
	for (int cold = 0; cold < 2; cold++)
		for (int hashed = 0; hashed < 2; hashed++) {
			if (!cold)
				(void)read_all(argv[1]);
			compare(argv[1], bytes, cold, hashed, runs);
		}
	device_close(device);
	return 0;
}
