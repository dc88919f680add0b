/* machine - a made-up machine for the doctor: a tree of /sys, /proc and /dev in a folder of its own, and a fake NVML.
 *
 * Owns:   the folder; it goes with machine_destroy().
 * Bounds: MACHINE_PLACES slots: one GPU and one NIC below a switch of their own; the first half is NUMA node 0. */
#ifndef TESTS_TOOLS_MACHINE_H
#define TESTS_TOOLS_MACHINE_H
#include <stdbool.h>
#include <stdint.h>
#include "tests/tools/fake_nvml.h"
#include "tools/doctor.h"

enum { MACHINE_PLACES = 8 };

struct machine {
	char root[64];
	void *library;
	struct fake_nvml *nvml;
	char *environment[8];
	struct doctor_live live;
	struct doctor_facts facts;
	struct doctor_findings findings;
	struct buf text, json;
};

/* A folder with nothing in it.  nvml: path of the fake library. */
struct machine *machine_create(const char *nvml);
void machine_destroy(struct machine *m);
/* A file of this text, and the folders it lies in; what was there goes. */
void machine_file(struct machine *m, const char *text, const char *format, ...) __attribute__((format(printf, 3, 4)));
void machine_bytes(struct machine *m, const void *bytes, size_t length, const char *format, ...) __attribute__((format(printf, 4, 5)));
void machine_link(struct machine *m, const char *target, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A file, a link, or a folder with all that is in it, goes. */
void machine_remove(struct machine *m, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Two sockets, eight H100 with NVSwitch, eight NICs of 400 Gb/s on InfiniBand, everything as it should be. */
void machine_h100(struct machine *m);
void machine_cpus(struct machine *m); /* the same without GPUs and NICs */
void machine_gpu(struct machine *m, uint32_t place);
void machine_nic(struct machine *m, uint32_t place, uint32_t number); /* mlx5_<number>, InfiniBand */
/* The NIC's port becomes Ethernet, with a GID of RoCE v1 at 0 and of v2 at 1 for its link-local address, and of v1 at 2 and v2 at 3
 * for an IPv4 one; network device eth<number> of MTU 9000. */
void machine_roce(struct machine *m, uint32_t number);
/* "/sys/bus/pci/devices/…" of a place's parts, below the root. */
void machine_place(uint32_t place, char ret_root_port[16], char ret_gpu_bridge[16], char ret_gpu[16], char ret_nic[16]);

/* Reads, judges and writes both reports: into m->text and m->json. */
void machine_examine(struct machine *m, const char *nvml);
#endif
