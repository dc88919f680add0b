#include "coordinator/metrics_text.h"

#include <math.h>
#include <stdio.h>

void histogram_add(struct histogram *histogram, const struct histogram_bounds *bounds, double value)
{
	uint32_t i = 0;
	while (i < bounds->count && value > bounds->bound[i])
		i++;
	histogram->counts[i]++;
	histogram->count++;
	histogram->sum += value;
}

static void put(struct metrics_text *text, const char *piece)
{
	if (text->e == ERR_OK)
		text->e = buf_text(text->buf, piece);
}

void metrics_family(struct metrics_text *text, const char *name, const char *type, const char *help)
{
	text->family = name;
	if (text->e == ERR_OK)
		text->e = buf_printf(text->buf, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_value(struct metrics_text *text, const char *value)
{
	for (const char *c = value; *c; c++) {
		char one[3] = {*c == '\n' ? '\\' : *c, *c == '\n' ? 'n' : 0, 0};
		if (*c == '"' || *c == '\\')
			put(text, "\\");
		put(text, one);
	}
}

static void put_labels(struct metrics_text *text, const char *const *labels, const char *le)
{
	const char *comma = "";
	for (; labels && labels[0]; labels += 2, comma = ",") {
		put(text, *comma ? comma : "{");
		put(text, labels[0]);
		put(text, "=\"");
		put_value(text, labels[1]);
		put(text, "\"");
	}
	if (le) {
		put(text, *comma ? "," : "{");
		put(text, "le=\"");
		put(text, le);
		put(text, "\"");
	}
	put(text, *comma || le ? "} " : " ");
}

static void put_number(struct metrics_text *text, double value)
{
	char number[40];
	snprintf(number, sizeof(number), value == floor(value) && fabs(value) < 1e15 ? "%.0f\n" : "%.9g\n", value);
	put(text, number);
}

void metrics_line(struct metrics_text *text, const char *const *labels, double value)
{
	put(text, text->family);
	put_labels(text, labels, NULL);
	put_number(text, value);
}

void metrics_histogram(struct metrics_text *text, const char *const *labels, const struct histogram_bounds *bounds,
		       const struct histogram *histogram)
{
	uint64_t below = 0;
	for (uint32_t i = 0; i <= bounds->count; i++) {
		char le[32] = "+Inf";
		if (i < bounds->count)
			snprintf(le, sizeof(le), "%g", bounds->bound[i]);
		below += histogram->counts[i];
		put(text, text->family);
		put(text, "_bucket");
		put_labels(text, labels, le);
		put_number(text, (double)below);
	}
	put(text, text->family);
	put(text, "_sum");
	put_labels(text, labels, NULL);
	put_number(text, histogram->sum);
	put(text, text->family);
	put(text, "_count");
	put_labels(text, labels, NULL);
	put_number(text, (double)histogram->count);
}
