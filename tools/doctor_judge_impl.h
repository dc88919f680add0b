/* doctor_judge_impl - how judgements are written down.  Only tools/doctor_judge*.c include it. */
#ifndef TOOLS_DOCTOR_JUDGE_IMPL_H
#define TOOLS_DOCTOR_JUDGE_IMPL_H
#include "tools/doctor.h"

/* A new finding; why (NULL with DOCTOR_OK) outlives it, what is printf's. */
struct doctor_finding *doctor_found(struct doctor_findings *findings, enum doctor_level level, const char *about, const char *why,
				    const char *format, ...) __attribute__((format(printf, 5, 6)));
/* What to do about it; printf's. */
void doctor_todo(struct doctor_finding *finding, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A set of GPUs: this one, or none. */
static inline uint64_t doctor_gpu_if(bool is_in, uint32_t index)
{
	return is_in && index < DOCTOR_GPUS_MAX ? UINT64_C(1) << index : 0;
}
/* "gpus 0-3, 5" of the GPUs whose bit is set. */
void doctor_gpus_text(uint64_t gpus, char *ret_text, size_t size);
uint32_t doctor_active_ports(const struct doctor_facts *facts);

void doctor_judge_gpus(const struct doctor_facts *facts, struct doctor_findings *findings);
void doctor_judge_nics(const struct doctor_facts *facts, struct doctor_findings *findings);
void doctor_judge_paths(const struct doctor_facts *facts, struct doctor_findings *findings);
void doctor_judge_ucx(const struct doctor_facts *facts, struct doctor_findings *findings);
void doctor_judge_host(const struct doctor_facts *facts, struct doctor_findings *findings);
#endif
