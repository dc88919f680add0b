/* torture - scenarios that are run again and again with one more call failing (fail.h).
 *
 * A scenario returns ERR_OK only when all that it did was right; any other error with its reason when a call failed
 * and the code said so.  A wrong answer is torture_check()'s: it ends the process.  Each run stands for itself and
 * leaves nothing behind: that is what is tested. */
#ifndef TESTS_TORTURE_TORTURE_H
#define TESTS_TORTURE_TORTURE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

struct loop;

struct scenario {
	const char *name;
	enum err (*run)(struct why *why);
	/* Of the child process, before its runs; may be NULL. */
	void (*begin)(void);
	unsigned batch; /* runs of a child process; 0: 64 */
	bool explains;  /* an error other than NOMEM has a reason */
	/* Of the test's own process, around all of it; may be NULL. */
	void (*prepare)(void);
	void (*finish)(void);
};

#define torture_check(condition) \
	((condition) ? (void)0 : torture_wrong(__FILE__, __LINE__, #condition))
_Noreturn void torture_wrong(const char *file, int line, const char *text);

/* Turns the loop until *done; ERR_DEADLINE when it takes too long: soon once a call was failed. */
MUST_USE enum err torture_wait(struct loop *loop, const int *done, struct why *why);
/* Nanoseconds to wait for what may never come now. */
uint64_t torture_patience_ns(void);

extern const struct scenario parser_scenarios[], stream_scenarios[], link_scenarios[], store_scenarios[], disk_scenarios[],
	http_scenarios[], etcd_scenarios[], request_scenarios[];
#endif
