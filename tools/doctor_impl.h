/* doctor_impl - reading a tree of small files, and the parts of doctor_read().  Only tools/doctor*.c include it. */
#ifndef TOOLS_DOCTOR_IMPL_H
#define TOOLS_DOCTOR_IMPL_H
#include <stddef.h>
#include "tools/doctor_facts.h"

enum { TREE_PATH_MAX = 512, TREE_TEXT_MAX = 4096, TREE_NAMES_MAX = 2048, TREE_NAME_BYTES = 32 };

/* Names below a folder, sorted as people do: "mlx5_2" before "mlx5_10". */
struct tree_names {
	size_t count;
	char names[TREE_NAMES_MAX][TREE_NAME_BYTES]; /* the first that come; longer names are left out */
};

/* The file's first `size` - 1 bytes without trailing white space; "" and false where it cannot be read.  path: printf's. */
bool tree_text(const char *root, char *ret_text, size_t size, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* Bytes read; 0: none. */
size_t tree_bytes(const char *root, void *ret_bytes, size_t size, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* A whole number of the file, or `otherwise`. */
int64_t tree_number(const char *root, int64_t otherwise, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool tree_exists(const char *root, const char *format, ...) __attribute__((format(printf, 2, 3)));
void tree_list(const char *root, struct tree_names *ret_names, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Where a link points, as it stands there. */
bool tree_link(const char *root, char *ret_text, size_t size, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* A device by its address on the bus; nothing is told of one that is not there. */
void doctor_read_pci(const char *root, const char *address, struct doctor_pci *ret_pci);
/* The device behind /sys/class/…: what its link `device` names. */
void doctor_read_device(const char *root, const char *class_path, struct doctor_pci *ret_pci);

void doctor_read_gpus(const char *root, struct doctor_facts *facts);
void doctor_read_nvml(const char *nvml, const char *root, struct doctor_facts *facts);
void doctor_read_ports(const char *root, struct doctor_facts *facts);
void doctor_read_nets(const char *root, struct doctor_facts *facts);
void doctor_read_host(const char *root, char **environment, struct doctor_facts *facts);
#endif
