/* why - the sentence that goes with an error: what was wrong, where, what was expected.
 *
 * The place that knows first writes it; callers pass it on.  The caller owns the memory; NULL is
 * accepted everywhere and drops the text. */
#ifndef BASE_WHY_H
#define BASE_WHY_H
#include "base/err.h"

#ifdef __cplusplus /* kernels/cuda/ speaks too */
extern "C" {
#endif

struct why {
	char text[512];
};

/* Writes the text and returns e, so that a failure is one line: return why_set(why, ERR_INVALID, …). */
enum err why_set(struct why *why, enum err e, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Puts "prefix: " before what is there: the path, the request. */
void why_prefix(struct why *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

#ifdef __cplusplus
}
#endif
#endif
