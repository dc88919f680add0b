/* fiber - a stack that runs until it gives way, and goes on from there later.
 *
 * Owns:   its stack, with a page below that nobody may touch.
 * Loop:   any host thread; whoever resumes it waits until it gives way.
 * Bounds: FIBER_STACK_BYTES each. */
#ifndef TESTS_GPU_FAKE_FIBER_H
#define TESTS_GPU_FAKE_FIBER_H
#include <stddef.h>
#include <stdint.h>

/* A kernel's locals are registers on a GPU: 255 words. */
#ifdef __SANITIZE_ADDRESS__
#define FIBER_STACK_BYTES ((size_t)256 << 10)
#else
#define FIBER_STACK_BYTES ((size_t)64 << 10)
#endif

struct fiber {
	uint8_t *stack; /* NULL: none yet */
	void *at;	/* where its registers lie, while it is not running */
	void *fake;	/* AddressSanitizer's */
};

/* Will run main() from its beginning, which never returns: its last word is fiber_leave(). */
void fiber_begin(struct fiber *fiber, void (*main)(void));
void fiber_resume(struct fiber *fiber);
/* Within the running fiber. */
void fiber_yield(struct fiber *fiber);
__attribute__((noreturn)) void fiber_leave(struct fiber *fiber);
/* The first word of main(). */
void fiber_entered(void);
#endif
