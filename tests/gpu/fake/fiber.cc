#include "tests/gpu/fake/fiber.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define GUARD_BYTES 4096

/* Puts the registers that a call keeps on the stack, leaves its end in *save, and takes those that lie at `load`. */
extern "C" void fake_fiber_switch(void **save, void *load);
asm(R"(
	.text
	.globl fake_fiber_switch
	.type fake_fiber_switch, @function
fake_fiber_switch:
	endbr64
	pushq %rbp
	pushq %rbx
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, (%rdi)
	movq %rsi, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbx
	popq %rbp
	ret
	.size fake_fiber_switch, . - fake_fiber_switch
)");

/* Of whoever resumed: there is one at a time. */
static void *resumer_at;
#ifdef __SANITIZE_ADDRESS__
static const void *resumer_stack;
static size_t resumer_bytes;
#endif

static uint8_t *take_stack()
{
	void *memory = mmap(nullptr, GUARD_BYTES + FIBER_STACK_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (memory == MAP_FAILED || mprotect(memory, GUARD_BYTES, PROT_NONE) != 0) {
		perror("the stack of a fiber");
		abort();
	}
	return static_cast<uint8_t *>(memory) + GUARD_BYTES;
}

void fiber_begin(struct fiber *fiber, void (*main)(void))
{
	if (!fiber->stack)
		fiber->stack = take_stack();
#ifdef __SANITIZE_ADDRESS__
	/* main()'s own frame was never left the ordinary way. */
	ASAN_UNPOISON_MEMORY_REGION(fiber->stack + FIBER_STACK_BYTES - 4096, 4096);
#endif
	void **top = reinterpret_cast<void **>(fiber->stack + FIBER_STACK_BYTES);
	*--top = nullptr; /* where main() would return to */
	*--top = reinterpret_cast<void *>(main);
	for (int i = 0; i < 6; i++)
		*--top = nullptr;
	fiber->at = top;
	fiber->fake = nullptr;
}

void fiber_resume(struct fiber *fiber)
{
#ifdef __SANITIZE_ADDRESS__
	void *fake;
	__sanitizer_start_switch_fiber(&fake, fiber->stack, FIBER_STACK_BYTES);
	fake_fiber_switch(&resumer_at, fiber->at);
	__sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
	fake_fiber_switch(&resumer_at, fiber->at);
#endif
}

void fiber_entered()
{
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(nullptr, &resumer_stack, &resumer_bytes);
#endif
}

void fiber_yield(struct fiber *fiber)
{
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_start_switch_fiber(&fiber->fake, resumer_stack, resumer_bytes);
	fake_fiber_switch(&fiber->at, resumer_at);
	__sanitizer_finish_switch_fiber(fiber->fake, &resumer_stack, &resumer_bytes);
#else
	fake_fiber_switch(&fiber->at, resumer_at);
#endif
}

void fiber_leave(struct fiber *fiber)
{
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_start_switch_fiber(nullptr, resumer_stack, resumer_bytes);
#endif
	fake_fiber_switch(&fiber->at, resumer_at);
	abort();
}
