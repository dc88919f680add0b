/* metrics_text - numbers as Prometheus' text format, family by family, and histograms of fixed bounds.
 *
 * Owns nothing but the counts of a histogram.  Bounds: HISTOGRAM_BOUNDS_MAX bounds of a histogram. */
#ifndef COORDINATOR_METRICS_TEXT_H
#define COORDINATOR_METRICS_TEXT_H
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"

enum { HISTOGRAM_BOUNDS_MAX = 32 };

struct histogram_bounds {
	uint32_t count;
	double bound[HISTOGRAM_BOUNDS_MAX];
};

struct histogram {
	uint64_t counts[HISTOGRAM_BOUNDS_MAX + 1]; /* the last: over all bounds */
	uint64_t count;
	double sum;
};

void histogram_add(struct histogram *histogram, const struct histogram_bounds *bounds, double value);

struct metrics_text {
	struct buf *buf;
	enum err e; /* the first one */
	const char *family;
};

/* type: "gauge", "counter" or "histogram".  The lines of a family follow. */
void metrics_family(struct metrics_text *text, const char *name, const char *type, const char *help);
/* labels: pairs of name and value, at most eight, ended by NULL; values are escaped here. */
void metrics_line(struct metrics_text *text, const char *const *labels, double value);
void metrics_histogram(struct metrics_text *text, const char *const *labels, const struct histogram_bounds *bounds,
		       const struct histogram *histogram);
#endif
