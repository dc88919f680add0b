#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum err buf_reserve(struct buf *buf, size_t more)
{
	size_t limit = buf->limit ? buf->limit : (size_t)1 << 30;
	if (more > limit || buf->length > limit - more)
		return ERR_TOO_LARGE;
	size_t need = buf->length + more + 1;
	if (need <= buf->capacity)
		return ERR_OK;
	size_t capacity = buf->capacity ? buf->capacity : 64;
	while (capacity < need)
		capacity *= 2;
	char *data = realloc(buf->data, capacity);
	if (!data)
		return ERR_NOMEM;
	buf->data = data;
	buf->capacity = capacity;
	buf->data[buf->length] = 0;
	return ERR_OK;
}

enum err buf_append(struct buf *buf, const void *data, size_t length)
{
	enum err e = buf_reserve(buf, length);
	if (e != ERR_OK)
		return e;
	if (length)
		memcpy(buf->data + buf->length, data, length);
	buf->length += length;
	buf->data[buf->length] = 0;
	return ERR_OK;
}

enum err buf_text(struct buf *buf, const char *text)
{
	return buf_append(buf, text, strlen(text));
}

enum err buf_printf(struct buf *buf, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (length < 0)
		return ERR_INVALID;
	enum err e = buf_reserve(buf, (size_t)length);
	if (e != ERR_OK)
		return e;
	va_start(args, format);
	vsnprintf(buf->data + buf->length, (size_t)length + 1, format, args);
	va_end(args);
	buf->length += (size_t)length;
	return ERR_OK;
}

void buf_clear(struct buf *buf)
{
	buf->length = 0;
	if (buf->data)
		buf->data[0] = 0;
}

void buf_fini(struct buf *buf)
{
	if (!buf)
		return;
	free(buf->data);
	*buf = (struct buf){.limit = buf->limit};
}
