/* ports - free TCP ports on loopback, for a process that starts others which shall listen there.
 *
 * Between a look and the listening of who is started another process may take the port.  So ports are held as well: by a socket of
 * UDP with the same number, which nothing else here uses, until our process ends.  Who looks by ports_find(), or by
 * tools/free_port.py, does not find a port that somebody holds. */
#ifndef NET_PORTS_H
#define NET_PORTS_H
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

enum { PORTS_AT_ONCE_MAX = 16 };

/* Ports that nobody listens at or holds; distinct; count <= PORTS_AT_ONCE_MAX.  Held from now on. */
MUST_USE enum err ports_find(uint16_t *ret_ports, uint32_t count);
/* Can count ports from first on be listened at?  ERR_BUSY names the one that cannot.  Those that nobody holds are held from now on. */
MUST_USE enum err ports_check(uint16_t first, uint32_t count, struct why *why);
#endif
