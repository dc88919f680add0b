/* Any bytes as a peer's link address; a good one is packed to the very same bytes. */
#include <stdlib.h>
#include <string.h>

#include "net/link_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct link_address address;
	struct buf again = {0};
	if (link_address_parse(data, length, &address) != ERR_OK)
		return 0;
	if (strlen(address.socket_name) > SOCKET_NAME_MAX || link_address_pack(&address, &again) != ERR_OK)
		abort();
	/* A name with a 0 inside ends there. */
	if (again.length == length && memcmp(again.data, data, length) != 0)
		abort();
	buf_fini(&again);
	return 0;
}
