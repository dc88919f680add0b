/* rails - the devices of a trusted network (--link-network DEV,…), and what UCX is to be told of them.
 *
 * Owns:   nothing; plain values.
 * Loop:   any thread; rails_rdma() reads the small files below /sys/class/infiniband.
 * Bounds: RAILS_MAX devices, names of the kernel's and of verbs' lengths. */
#ifndef NET_RAILS_H
#define NET_RAILS_H
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

enum { RAILS_MAX = 8, RAIL_NAME_MAX = 63, RAILS_TEXT = RAILS_MAX * 2 * (RAIL_NAME_MAX + 1) };

struct rails {
	uint32_t count;
	char names[RAILS_MAX][RAIL_NAME_MAX + 1]; /* "eth0", "mlx5_0:1" */
};

/* "eth0,eth1".  ERR_INVALID: none, too many, one twice, or what is no name; why says which. */
MUST_USE enum err rails_parse(const char *list, struct rails *ret_rails, struct why *why);
/* What UCX's NET_DEVICES is for RDMA over these: of each its port ("mlx5_0:1"), named or found as that of the network device, and the
 * network device that goes with it, for what UCX's own TCP carries.  root: "" is this machine's.  *ret_ports counts ports.
 * ERR_NOT_FOUND: to one of them no port belongs (a bond, a bridge); why names it. */
MUST_USE enum err rails_rdma(const struct rails *rails, const char *root, char ret_text[RAILS_TEXT], uint32_t *ret_ports, struct why *why);
#endif
