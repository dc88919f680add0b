/* fake - what a test asks of the fake devices beyond CUDA: when things run, in which order, what fails.
 *
 * Owns:   the options, and how often each call came.
 * Loop:   any host thread.
 * Rules:  1 the defaults are the hardest: everything as late as it may be, threads in every order. */
#ifndef TESTS_GPU_FAKE_FAKE_H
#define TESTS_GPU_FAKE_FAKE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

/* How the threads of a block take turns; FAKE_TURNS: one block after the other by each of these. */
enum fake_order { FAKE_FORWARD, FAKE_BACKWARD, FAKE_SHUFFLED, FAKE_TURNS };

struct fake_options {
	bool late_streams; /* what is queued runs when it is waited for; false: at once */
	bool late_copies;  /* copies beside the threads land when nothing else can run, wgmma adds when it is waited for */
	enum fake_order order;
	uint64_t seed;	     /* of FAKE_SHUFFLED */
	size_t device_bytes; /* of each, at most FAKE_DEVICE_BYTES_MAX */
	int processors;	     /* multiprocessors that the device says it has */
	bool absent;	     /* there is no device */
	bool no_peers;	     /* its driver has no virtual memory to share */
	bool no_rdma;	     /* no NIC may register its memory: who asks for that gets none */
	int devices;	     /* that there are: at most FAKE_DEVICES_MAX */
	bool no_access;	     /* none can read another's memory */
	int ahead;	     /* the streams of this one run as soon as they may; negative: of none */
};
#define FAKE_DEVICES_MAX 8
#define FAKE_DEVICE_BYTES_MAX ((size_t)16 << 30)

const struct fake_options *fake_now(void);
/* The options of before, to be put back. */
struct fake_options fake_configure(const struct fake_options *options);
/* The nth (1: the next) call from now on of this name gives `error`: a function of CUDA's runtime; "launch" is queueing a kernel,
 * "kernel" running one and "copy" running a copy, after which every call gives the error, as of a lost device: of several that
 * one, whose events never come, so that whoever waits for them on another waits for ever. */
void fake_fail(const char *call, uint32_t nth, int error);
/* Forgets failures, a lost device too. */
void fake_heal(void);
/* How often it was called since the last fake_heal(). */
uint64_t fake_call_count(const char *call);
/* Of device memory, pinned memory: what is allocated now.  0 at the end, or something leaks. */
size_t fake_device_used(void);
size_t fake_pinned_used(void);
/* Streams, events, graphs, handles and mappings of virtual memory that exist now. */
size_t fake_object_count(void);

/* Within the fake: counts the call, and says whether it fails by fake_fail(); *ret_error, if given, says how. */
bool fake_fails(const char *call);
#ifdef __cplusplus
}
#endif
#endif
