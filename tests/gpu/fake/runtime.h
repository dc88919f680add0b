/* runtime - what the files of the fake runtime share: the lock, errors, memories.
 *
 * Owns:   the lock; the device's memory.
 * Loop:   any host thread; everything here but fake_lock under the lock. */
#ifndef TESTS_GPU_FAKE_RUNTIME_H
#define TESTS_GPU_FAKE_RUNTIME_H
#include <mutex>
#include <cuda_runtime.h>

extern std::recursive_mutex fake_lock;

/* Opens a function of the runtime: takes the lock, counts the call; gives the error of a lost device or of fake_fail(). */
#define FAKE_CALL(name)                                    \
	std::lock_guard<std::recursive_mutex> lock(fake_lock); \
	if (cudaError_t failed = fake_enter(name))             \
	return failed

cudaError_t fake_enter(const char *call);
/* Remembered for cudaGetLastError(). */
cudaError_t fake_error(cudaError_t error);
/* The thread's, as cudaSetDevice() has it. */
int fake_current(void);
/* Every later call for the device gives it. */
void fake_lose_device(int device, cudaError_t error);
bool fake_device_lost(int device);

enum fake_memory { FAKE_PAGEABLE, FAKE_PINNED, FAKE_DEVICE };
enum fake_memory fake_memory_of(const void *memory);
/* Whether all of it belongs to one allocation; pageable memory always does. */
bool fake_memory_holds(const void *memory, size_t bytes);
/* Virtual memory (virtual.cc): how much of an allocation is mapped from there on, and what belongs to the device of this process. */
bool fake_virtual_has(const void *memory);
bool fake_virtual_holds(const void *memory, size_t bytes);
void fake_virtual_open(bool open);
size_t fake_virtual_count(void);
/* More or less device memory is in use; false: there is not so much. */
bool fake_device_take(size_t bytes);
void fake_device_give_back(size_t bytes);
/* Sets memory of any kind. */
void fake_set_memory(void *memory, int value, size_t bytes);
/* Device memory may be touched in between; calls nest. */
void fake_open_memory(void);
void fake_close_memory(void);
/* In between: by a kernel of this device, which has its own and what it was allowed of others; negative: by copies, all. */
void fake_view_memory(int device);
/* Gives way to what waits on a healed device. */
void fake_complete_events(void);
/* Runs all that is queued anywhere. */
void fake_drain_all(void);
/* Nowhere is it promised that freeing pinned memory waits for the copies that use it. */
bool fake_copies_queued(const void *memory, size_t bytes);
/* A capture that what this thread does would spoil: one of its own, or one in the global mode. */
bool fake_any_capture(void);
/* Any: what waits for a whole device waits for a stream that records. */
bool fake_is_capturing(void);
/* A capture that meets what it cannot hold. */
cudaError_t fake_spoil_captures(void);
#endif
