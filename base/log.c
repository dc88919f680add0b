#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
	char who[64];
	enum log_level level;
	bool json;
} log_state = {.who = "baton", .level = LOG_INFO};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_init(const char *who, enum log_level level, bool json)
{
	snprintf(log_state.who, sizeof(log_state.who), "%s", who);
	log_state.level = level;
	log_state.json = json;
}

bool log_enabled(enum log_level level)
{
	return level >= log_state.level;
}

/* Escapes what JSON demands; everything else is left as it came. */
static size_t json_escape(char *out, size_t out_size, const char *in)
{
	size_t n = 0;
	for (; *in && n + 7 < out_size; in++) {
		unsigned char c = (unsigned char)*in;
		if (c == '"' || c == '\\') {
			out[n++] = '\\';
			out[n++] = (char)c;
		} else if (c < 0x20) {
			n += (size_t)snprintf(out + n, out_size - n, "\\u%04x", c);
		} else {
			out[n++] = (char)c;
		}
	}
	out[n] = 0;
	return n;
}

void log_line(enum log_level level, const char *format, ...)
{
	if (!log_enabled(level))
		return;
	char text[1024], line[2400];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);

	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	struct tm tm;
	gmtime_r(&now.tv_sec, &tm);
	char stamp[40];
	size_t stamp_length = strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(stamp + stamp_length, sizeof(stamp) - stamp_length, ".%03ldZ", now.tv_nsec / 1000000);

	int length;
	if (log_state.json) {
		char escaped[2048];
		json_escape(escaped, sizeof(escaped), text);
		length = snprintf(line, sizeof(line), "{\"time\":\"%s\",\"level\":\"%s\",\"who\":\"%s\",\"text\":\"%s\"}\n",
				  stamp, level_names[level], log_state.who, escaped);
	} else {
		length = snprintf(line, sizeof(line), "%s %-5s %s > %s\n", stamp + 11, level_names[level],
				  log_state.who, text);
	}
	if (length > (int)sizeof(line) - 1)
		length = (int)sizeof(line) - 1;
	/* One write per line, so that lines of several threads and processes do not mix. */
	ssize_t ignored = write(STDERR_FILENO, line, (size_t)length);
	(void)ignored;
}
