#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/gpu/bench.h"
#include "bench/gpu/shapes.h"

/* What a node waits for at its start: --kv-bytes of memory that others map, there already, becomes pinned.  And goes again: one figure for both. */
#define BYTES SHAPES_PIN_BYTES

struct memory {
	struct bench *bench;
	void *at;
};

static void pin(void *context, uint32_t index)
{
	struct memory *memory = context;
	bench_check(dev_pin(memory->bench->device, memory->at, BYTES), "pinning");
	dev_unpin(memory->bench->device, memory->at, BYTES);
}

void bench_pin(struct bench *bench)
{
	struct memory memory = {bench, MAP_FAILED};
	char name[64];
	int fd = memfd_create("bench", MFD_CLOEXEC);
	if (fd >= 0 && ftruncate(fd, (off_t)BYTES) == 0)
		memory.at = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory.at == MAP_FAILED) {
		fprintf(stderr, "bench_gpu: no memory to pin\n");
	} else {
		memset(memory.at, 1, BYTES);
		snprintf(name, sizeof(name), "pin and unpin/%zu MiB", BYTES >> 20);
		bench_measure(bench, name, (struct work){.bytes = (double)BYTES}, pin, &memory);
		munmap(memory.at, BYTES);
	}
	if (fd >= 0)
		close(fd);
}
