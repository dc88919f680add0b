/* doctor - what `baton doctor` makes of a machine's facts: findings, each with what to do about it.
 *
 * Owns:   nothing; plain values.
 * Bounds: DOCTOR_FINDINGS_MAX findings; what comes after is counted.
 * Rules:  1 a judgement looks at facts alone (tools/doctor_facts.h), so that tests can make up machines;
 *         2 what is ok says so; everything else says why it matters to Baton, and what to do: a command where there is one. */
#ifndef TOOLS_DOCTOR_H
#define TOOLS_DOCTOR_H
#include "base/buf.h"
#include "tools/doctor_facts.h"

enum { DOCTOR_FINDINGS_MAX = 256 };

enum doctor_level {
	DOCTOR_OK,
	DOCTOR_NOTE,    /* may be as it should be */
	DOCTOR_WARNING, /* works, and worse than the machine could */
	DOCTOR_PROBLEM, /* something will not work */
};

struct doctor_finding {
	enum doctor_level level;
	char about[64];  /* "gpu 3", "mlx5_0 port 1" */
	char what[256];
	const char *why; /* NULL with DOCTOR_OK */
	char todo[320];
};

struct doctor_findings {
	uint32_t count;
	uint32_t left_out;
	uint32_t counts[DOCTOR_PROBLEM + 1]; /* by level */
	struct doctor_finding list[DOCTOR_FINDINGS_MAX + 1]; /* the last is for what has no place */
};

const char *doctor_level_text(enum doctor_level level); /* "problem" */
void doctor_judge(const struct doctor_facts *facts, struct doctor_findings *ret_findings);
/* What there is, then the findings, the worst first. */
MUST_USE enum err doctor_text(const struct doctor_facts *facts, const struct doctor_findings *findings, struct buf *text);
/* {"gpus": […], "nics": […], "networks": […], "distances": […], "ucx": {…}, "host": {…}, "findings": [{"level", "about",
 * "what", "why", "do"}], "problems": 0, "warnings": 0} */
MUST_USE enum err doctor_json(const struct doctor_facts *facts, const struct doctor_findings *findings, struct buf *text);
#endif
