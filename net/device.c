#include "net/device.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

static bool address_of_family(const struct ifaddrs *entry, int family, char *ret_text)
{
	if (!entry->ifa_addr || entry->ifa_addr->sa_family != family)
		return false;
	const struct sockaddr_in *four = (const struct sockaddr_in *)entry->ifa_addr;
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)entry->ifa_addr;
	if (family == AF_INET)
		return inet_ntop(family, &four->sin_addr, ret_text, DEVICE_ADDRESS_MAX) != NULL;
	return !IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr) && inet_ntop(family, &six->sin6_addr, ret_text, DEVICE_ADDRESS_MAX) != NULL;
}

enum err device_address(const char *device, char ret_text[DEVICE_ADDRESS_MAX], struct why *why)
{
	static const int families[] = {AF_INET, AF_INET6};
	struct ifaddrs *all;
	if (if_nametoindex(device) == 0)
		return why_set(why, ERR_NOT_FOUND, "there is no network device \"%s\"", device);
	if (getifaddrs(&all) != 0)
		return why_set(why, ERR_NOMEM, "the kernel does not tell the addresses of its devices: %m");
	bool found = false;
	for (int i = 0; i < 2 && !found; i++)
		for (const struct ifaddrs *entry = all; entry && !found; entry = entry->ifa_next)
			found = strcmp(entry->ifa_name, device) == 0 && address_of_family(entry, families[i], ret_text);
	freeifaddrs(all);
	return found ? ERR_OK : why_set(why, ERR_NOT_FOUND, "network device \"%s\" has no address", device);
}
