/* fail - makes a chosen call of the code under test fail: the k-th one, or every one from the k-th on.
 *
 * Every function of fail_*.c is put before the real one by the linker (--wrap, names.txt), so the calls that our own
 * object files make are counted, and those inside of other people's libraries are not; libevent gets our
 * allocator instead (fail_install).  What the wrapped allocator gave and nobody took back is known by name of its
 * caller, in any build.
 *
 * Reads and writes of an eventfd never fail: the kernel has no way to fail them but a full counter.
 * Any thread.  One state for the process: it is a test. */
#ifndef TESTS_TORTURE_FAIL_H
#define TESTS_TORTURE_FAIL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fail_kind { FAIL_MEMORY, FAIL_FILE, FAIL_SOCKET, FAIL_THREAD, FAIL_LIBRARY, FAIL_TLS, FAIL_UCX, FAIL_KINDS };
const char *fail_kind_name(enum fail_kind kind);

/* Once, before any library was used. */
void fail_install(void);

/* Counts from now on; the k-th call (1: the next) fails, with forever all after it as well.  k 0: none, only count. */
void fail_arm(uint64_t k, bool forever);
/* Nothing fails or counts any more; returns how many calls were failed. */
uint64_t fail_disarm(void);
uint64_t fail_counted(enum fail_kind kind);
/* The caller of the first call that was failed since fail_arm(). */
void *fail_site(void);
/* Something was failed already: a scenario that waits need not wait long any more. */
bool fail_happened(void);

/* This thread's calls are the test's own: neither counted nor failed.  Nests. */
void fail_pause(void);
void fail_resume(void);

/* What the wrapped allocator gave out and was not given back. */
size_t fail_live(void);
/* Prints who asked for what was given since the mark (a number of fail_mark()) and lives. */
uint64_t fail_mark(void);
void fail_print_live(uint64_t since);
#endif
