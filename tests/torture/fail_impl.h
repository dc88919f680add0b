/* fail_impl - what the wrappers share.  Only tests/torture/fail*.c includes it. */
#ifndef TESTS_TORTURE_FAIL_IMPL_H
#define TESTS_TORTURE_FAIL_IMPL_H
#include <errno.h>
#include <stddef.h>

#include "fail.h"

/* Counts one call; true: it is to fail. */
bool fail_now(enum fail_kind kind, void *caller);
void *fail_given(void *memory, void *caller);
void fail_taken(const void *memory);

#define CALLER __builtin_return_address(0)
/* WRAP(int, socket, (int domain, int type, int protocol), (domain, type, protocol), FAIL_SOCKET, EMFILE, -1) */
#define WRAP(type, name, parameters, arguments, kind, error, failure) \
	type __real_##name parameters;                                \
	type __wrap_##name parameters;                                \
	type __wrap_##name parameters                                 \
	{                                                             \
		if (fail_now(kind, CALLER)) {                         \
			errno = error;                                \
			return failure;                               \
		}                                                     \
		return __real_##name arguments;                       \
	}
#endif
