/* device - where a network device of this machine is reached.  Any thread; asks the kernel once a call. */
#ifndef NET_DEVICE_H
#define NET_DEVICE_H
#include "base/err.h"
#include "base/why.h"

enum { DEVICE_ADDRESS_MAX = 64 }; /* with the 0 */

/* Its first address as text, IPv4 before IPv6 (link-local ones do not count).  ERR_NOT_FOUND: why says whether the device or
 * its address is missing; ERR_NOMEM. */
MUST_USE enum err device_address(const char *device, char ret_text[DEVICE_ADDRESS_MAX], struct why *why);
#endif
