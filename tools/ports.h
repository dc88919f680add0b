/* ports - free TCP ports on loopback. */
#ifndef TOOLS_PORTS_H
#define TOOLS_PORTS_H
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

/* Ports that nobody listens at now; distinct; at most 16. */
MUST_USE enum err ports_find(uint16_t *ret_ports, uint32_t count);
/* Can count ports from first on be listened at?  ERR_BUSY names the one that cannot. */
MUST_USE enum err ports_check(uint16_t first, uint32_t count, struct why *why);
#endif
