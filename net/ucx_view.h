/* ucx_view - what UCX has on this machine: version, transports and their devices.  For `baton doctor`; links ask for themselves.
 *
 * Owns:   nothing.
 * Loop:   none; opens and closes a context of its own, which takes some 10 ms, and may write to stdout what UCX has to say.
 * Bounds: `max` lanes, texts cut to their field. */
#ifndef NET_UCX_VIEW_H
#define NET_UCX_VIEW_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

struct ucx_lane {
	char transport[16]; /* "rc_mlx5" */
	char device[32];    /* "mlx5_0:1" */
};

const char *ucx_view_version(void); /* "1.13.1" */
/* All transports, whatever UCX_TLS and UCX_NET_DEVICES say.  ret_cuda: memory of GPUs may be registered; ret_rma_rails: one
 * one-sided read may take several devices.  ERR_UNSUPPORTED: UCX
 * does not start, `why` has its words. */
MUST_USE enum err ucx_view(struct ucx_lane *ret_lanes, uint32_t max, uint32_t *ret_count, bool *ret_cuda, bool *ret_rma_rails, struct why *why);
#endif
