/* The host: pages, shared memory, io_uring, disk, clock, ports. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/doctor_judge_impl.h"

enum { SKEW_MAX_S = 5 };

static const uint64_t SHM_BYTES_MIN = (uint64_t)1 << 30;
static const char WHY_PAGES[] = "pages of 4 KiB: the first touch of --kv-bytes takes longer, and so does every walk over it";
static const char WHY_CLOCK[] = "no deadline of Baton crosses machines as a time of day, but certificates, logs and traces do";
static const char WHY_DISK[] = "a store keeps blocks there (--disk-path)";

static void judge_pages(const struct doctor_facts *facts, struct doctor_findings *findings)
{
	if (strcmp(facts->huge_shared, "never") == 0 || strcmp(facts->huge_shared, "deny") == 0)
		doctor_todo(doctor_found(findings, DOCTOR_NOTE, "memory", WHY_PAGES, "huge pages of shared memory are at \"%s\": the block pool gets none",
					 facts->huge_shared),
			    "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled");
	if (strcmp(facts->huge_private, "never") == 0)
		doctor_todo(doctor_found(findings, DOCTOR_NOTE, "memory", "weights on a CPU lie in pages of 4 KiB", "huge pages are at \"never\""),
			    "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
	if (facts->shm_bytes > 0 && facts->shm_bytes < SHM_BYTES_MIN)
		doctor_todo(doctor_found(findings, facts->gpu_count > 1 ? DOCTOR_WARNING : DOCTOR_NOTE, "/dev/shm",
					 "NCCL (tensor parallelism) and UCX's shared memory (ucx-shm) need room there; mapped memory does not", "it has %llu MiB",
					 (unsigned long long)facts->shm_bytes >> 20),
			    "in a pod: an emptyDir of medium Memory at /dev/shm; with docker: --shm-size=8g");
}

static void judge_disk(const struct doctor_facts *facts, struct doctor_findings *findings)
{
	const struct doctor_live *live = &facts->live;
	if (facts->uring_disabled > 0 || live->uring_error != 0)
		doctor_todo(doctor_found(findings, DOCTOR_NOTE, "io_uring", "a store's disk is then served by eight threads: as safe, and slower for large blocks",
					 "it is not allowed here (%s)", live->uring_error ? strerror(live->uring_error) : "kernel.io_uring_disabled"),
			    "sysctl kernel.io_uring_disabled=0; in a pod: a seccomp profile that allows io_uring_setup, _enter and _register");
	if (live->disk[0] == 0)
		return;
	if (live->disk_error != 0)
		doctor_todo(doctor_found(findings, DOCTOR_PROBLEM, "disk", WHY_DISK, "no file can be written in %s: %s", live->disk, strerror(live->disk_error)),
			    "name a folder of a local disk that this user may write to");
	else if (live->direct_error != 0)
		doctor_todo(doctor_found(findings, DOCTOR_WARNING, "disk", WHY_DISK, "%s does not take O_DIRECT: %s", live->disk, strerror(live->direct_error)),
			    "use ext4 or xfs on a local NVMe disk: without O_DIRECT every block is in memory twice");
	else
		doctor_found(findings, DOCTOR_OK, "disk", NULL, "%s takes O_DIRECT", live->disk);
}

static void judge_clock(const struct doctor_live *live, struct doctor_findings *findings)
{
	if (live->clock_set == DOCTOR_NO)
		doctor_todo(doctor_found(findings, DOCTOR_NOTE, "clock", WHY_CLOCK, "nobody keeps it right"),
			    "systemctl enable --now chrony (or systemd-timesyncd), on the host");
	if (live->etcd_error[0])
		doctor_todo(doctor_found(findings, DOCTOR_WARNING, "etcd", "nodes take their number from it when they start, and find each other there",
					 "%s: %s", live->etcd, live->etcd_error),
			    "start it, or look at names, ports and NetworkPolicy: curl %s/health", live->etcd);
	if (live->has_skew && llabs(live->skew_s) > SKEW_MAX_S)
		doctor_todo(doctor_found(findings, DOCTOR_WARNING, "clock", WHY_CLOCK, "it is %lld s %s etcd's", (long long)llabs(live->skew_s),
					 live->skew_s > 0 ? "ahead of" : "behind"),
			    "chronyc tracking, on both");
	else if (live->has_skew)
		doctor_found(findings, DOCTOR_OK, "etcd", NULL, "%s answers, and its clock agrees", live->etcd);
}

void doctor_judge_host(const struct doctor_facts *facts, struct doctor_findings *findings)
{
	const struct doctor_live *live = &facts->live;
	judge_pages(facts, findings);
	judge_disk(facts, findings);
	judge_clock(live, findings);
	for (uint32_t i = 0; i < live->port_count; i++)
		if (live->ports[i].taken)
			doctor_todo(doctor_found(findings, DOCTOR_PROBLEM, "ports", "what is to listen there does not start", "%u is taken",
						 live->ports[i].number),
				    "ss -ltnp sport = :%u says by whom", live->ports[i].number);
		else
			doctor_found(findings, DOCTOR_OK, "ports", NULL, "%u is free", live->ports[i].number);
	if (facts->left_out > 0)
		doctor_todo(doctor_found(findings, DOCTOR_NOTE, "devices", "they were not looked at", "%u are over this program's bounds", facts->left_out),
			    "nothing");
}
