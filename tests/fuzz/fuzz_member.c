/* Any bytes as a member's record from etcd; a good one comes back the same. */
#include <stdlib.h>
#include <string.h>

#include "net/member.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct why why;
	struct member member, again;
	if (member_parse((const char *)data, length, &why, &member) != ERR_OK)
		return 0;
	char text[MEMBER_RECORD_MAX];
	if (member_format(&member, text) != ERR_OK)
		return 0;
	if (member_parse(text, strlen(text), &why, &again) != ERR_OK || again.node != member.node ||
	    again.incarnation != member.incarnation || again.role != member.role)
		abort();
	return 0;
}
