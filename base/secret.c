#include "base/secret.h"

#include <sys/stat.h>

#include "base/log.h"

void secret_warn_of_mode(const char *path)
{
	struct stat status;
	if (stat(path, &status) == 0 && (status.st_mode & 077))
		log_warn("%s: mode %03o lets others read the key; expected 600", path, (unsigned)(status.st_mode & 0777));
}
