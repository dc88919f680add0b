#include "base/why.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum err why_set(struct why *why, enum err e, const char *format, ...)
{
	if (!why)
		return e;
	va_list args;
	va_start(args, format);
	vsnprintf(why->text, sizeof(why->text), format, args);
	va_end(args);
	return e;
}

void why_prefix(struct why *why, const char *format, ...)
{
	if (!why)
		return;
	char old[sizeof(why->text)];
	memcpy(old, why->text, sizeof(old));
	va_list args;
	va_start(args, format);
	int length = vsnprintf(why->text, sizeof(why->text), format, args);
	va_end(args);
	if (length < 0 || (size_t)length + 3 > sizeof(why->text))
		return;
	snprintf(why->text + length, sizeof(why->text) - (size_t)length, ": %s", old);
}
