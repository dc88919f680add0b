/* strftime_now: the date that some templates tell the model. */
#include <time.h>

#include "model/template_eval.h"

static const char *const months[] = {"January", "February", "March",     "April",   "May",      "June",
				     "July",    "August",   "September", "October", "November", "December"};
static const char *const days[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};

static int hour_of_12(const struct tm *tm)
{
	return tm->tm_hour % 12 ? tm->tm_hour % 12 : 12;
}

/* One letter behind the %, in the C locale.  ERR_UNSUPPORTED: it is none of these. */
static enum err print_field(struct buf *out, char letter, const struct tm *tm)
{
	switch (letter) {
	case 'a': return buf_printf(out, "%.3s", days[tm->tm_wday]);
	case 'A': return buf_text(out, days[tm->tm_wday]);
	case 'b': return buf_printf(out, "%.3s", months[tm->tm_mon]);
	case 'B': return buf_text(out, months[tm->tm_mon]);
	case 'd': return buf_printf(out, "%02d", tm->tm_mday);
	case 'e': return buf_printf(out, "%2d", tm->tm_mday);
	case 'H': return buf_printf(out, "%02d", tm->tm_hour);
	case 'I': return buf_printf(out, "%02d", hour_of_12(tm));
	case 'j': return buf_printf(out, "%03d", tm->tm_yday + 1);
	case 'm': return buf_printf(out, "%02d", tm->tm_mon + 1);
	case 'M': return buf_printf(out, "%02d", tm->tm_min);
	case 'p': return buf_text(out, tm->tm_hour < 12 ? "AM" : "PM");
	case 'S': return buf_printf(out, "%02d", tm->tm_sec);
	case 'y': return buf_printf(out, "%02d", tm->tm_year % 100);
	case 'Y': return buf_printf(out, "%d", tm->tm_year + 1900);
	case 'F': return buf_printf(out, "%d-%02d-%02d", tm->tm_year + 1900, tm->tm_mon + 1, tm->tm_mday);
	case 'T': return buf_printf(out, "%02d:%02d:%02d", tm->tm_hour, tm->tm_min, tm->tm_sec);
	case '%': return buf_text(out, "%");
	default: return ERR_UNSUPPORTED;
	}
}

/* "%-d": without the zero in front. */
static enum err print_unpadded(struct buf *out, char letter, const struct tm *tm)
{
	struct buf padded = {0};
	enum err e = print_field(&padded, letter, tm);
	size_t zeros = 0;
	while (e == ERR_OK && zeros + 1 < padded.length && (padded.data[zeros] == '0' || padded.data[zeros] == ' '))
		zeros++;
	if (e == ERR_OK)
		e = buf_append(out, padded.data + zeros, padded.length - zeros);
	buf_fini(&padded);
	return e;
}

enum err eval_strftime(struct eval *ev, struct text format, struct value *ret_text)
{
	time_t seconds = (time_t)ev->limits.now_s;
	struct tm tm;
	struct buf out = {.limit = ev->limits.output_max};
	enum err e = gmtime_r(&seconds, &tm) && tm.tm_year >= -899 && tm.tm_year < 8100
			     ? eval_step(ev, format.length)
			     : eval_fail(ev, ERR_INVALID, "no year of four digits");
	for (size_t i = 0; e == ERR_OK && i < format.length; i++) {
		bool field = format.data[i] == '%' && i + 1 < format.length;
		bool bare = field && format.data[i + 1] == '-' && i + 2 < format.length;
		char letter = bare ? format.data[i + 2] : field ? format.data[i + 1] : 0;
		e = bare    ? print_unpadded(&out, letter, &tm)
		    : field ? print_field(&out, letter, &tm)
			    : buf_append(&out, &format.data[i], 1);
		if (e == ERR_UNSUPPORTED)
			e = eval_fail(ev, e, "strftime_now has no %%%c", letter);
		i += bare ? 2 : field;
	}
	if (e == ERR_OK)
		e = value_copy_text(&ev->arena, out.data, out.length, ret_text);
	buf_fini(&out);
	return e;
}
