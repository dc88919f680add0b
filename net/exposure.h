/* exposure - closed by default: without TLS a listener stays on this machine, unless --insecure says otherwise.
 *
 * Pure but for the text of an error. */
#ifndef NET_EXPOSURE_H
#define NET_EXPOSURE_H
#include <stdbool.h>
#include "base/err.h"
#include "base/why.h"

/* host as given to that flag.  remedy: which flags give it TLS.  ERR_DENIED: others could reach it in the clear. */
MUST_USE enum err exposure_check(const char *flag, const char *host, bool has_tls, bool insecure, const char *remedy,
				 struct why *why);
#endif
