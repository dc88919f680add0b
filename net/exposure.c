#include "net/exposure.h"

#include <stdio.h>
#include <string.h>

#include "net/url.h"

enum err exposure_check(const char *flag, const char *host, bool has_tls, bool insecure, const char *remedy,
			struct why *why)
{
	struct url url = {0};
	struct address address;
	if (has_tls || insecure)
		return ERR_OK;
	snprintf(url.host, sizeof(url.host), "%s", host);
	/* A name that is no address is judged as what it may be. */
	if (strcmp(host, "localhost") == 0 || (url_address(&url, &address) == ERR_OK && address_is_loopback(&address)))
		return ERR_OK;
	return why_set(why, ERR_DENIED, "%s %s can be reached from other machines, and nothing protects it: give %s, or "
					"--insecure where the network is trusted", flag, host, remedy);
}
