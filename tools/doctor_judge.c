/* Findings, and the order in which a machine is judged. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tools/doctor_judge_impl.h"

const char *doctor_level_text(enum doctor_level level)
{
	static const char *const texts[] = {"ok", "note", "warning", "problem"};
	return texts[level];
}

struct doctor_finding *doctor_found(struct doctor_findings *findings, enum doctor_level level, const char *about, const char *why,
				    const char *format, ...)
{
	va_list args;
	struct doctor_finding *finding = &findings->list[findings->count];
	if (findings->count < DOCTOR_FINDINGS_MAX)
		findings->count++;
	else
		findings->left_out++;
	findings->counts[level]++;
	*finding = (struct doctor_finding){.level = level, .why = why};
	snprintf(finding->about, sizeof(finding->about), "%s", about);
	va_start(args, format);
	vsnprintf(finding->what, sizeof(finding->what), format, args);
	va_end(args);
	return finding;
}

void doctor_todo(struct doctor_finding *finding, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(finding->todo, sizeof(finding->todo), format, args);
	va_end(args);
}

void doctor_gpus_text(uint64_t gpus, char *ret_text, size_t size)
{
	bool many = (gpus & (gpus - 1)) != 0;
	size_t at = (size_t)snprintf(ret_text, size, many ? "gpus" : "gpu");
	for (uint32_t first = 0; first < DOCTOR_GPUS_MAX && at < size; first++) {
		if (!(gpus >> first & 1))
			continue;
		uint32_t last = first;
		while (last + 1 < DOCTOR_GPUS_MAX && gpus >> (last + 1) & 1)
			last++;
		at += (size_t)snprintf(ret_text + at, size - at, "%s %u", at > 4 ? "," : "", first);
		if (last > first && at < size)
			at += (size_t)snprintf(ret_text + at, size - at, "-%u", last);
		first = last;
	}
}

uint32_t doctor_active_ports(const struct doctor_facts *facts)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < facts->port_count; i++)
		count += facts->ports[i].active;
	return count;
}

bool doctor_has_lane(const struct doctor_live *live, const char *transport)
{
	for (uint32_t i = 0; i < live->lane_count; i++)
		if (strncmp(live->lanes[i].transport, transport, strlen(transport)) == 0)
			return true;
	return false;
}

void doctor_judge(const struct doctor_facts *facts, struct doctor_findings *ret_findings)
{
	memset(ret_findings, 0, sizeof(*ret_findings));
	doctor_judge_gpus(facts, ret_findings);
	doctor_judge_nics(facts, ret_findings);
	doctor_judge_paths(facts, ret_findings);
	doctor_judge_ucx(facts, ret_findings);
	doctor_judge_host(facts, ret_findings);
}
