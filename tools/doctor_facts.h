/* doctor_facts - what a machine has of that Baton can use: what `baton doctor` reads before it judges.
 *
 * Read from /sys, /proc and /dev below a root that tests replace, from NVIDIA's management library (loaded where it is there),
 * and by a few trials that no file tells of (struct doctor_live).
 *
 * Owns:   nothing; plain values.
 * Bounds: the DOCTOR_…_MAX below; what is more is counted in `left_out`.  Files are read up to 4 KiB, tables of mounts up to
 *         256 KiB; texts are cut to their field. */
#ifndef TOOLS_DOCTOR_FACTS_H
#define TOOLS_DOCTOR_FACTS_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "net/ucx_view.h"

enum {
	DOCTOR_GPUS_MAX = 32,
	DOCTOR_PORTS_MAX = 64, /* of NICs that do RDMA */
	DOCTOR_NETS_MAX = 64,
	DOCTOR_GIDS_MAX = 256,
	DOCTOR_WAY_MAX = 16,   /* bridges between a device and its root, with both */
	DOCTOR_LINKS_MAX = 18, /* NVLinks of a GPU */
	DOCTOR_LANES_MAX = 128, /* of UCX: transport and device */
	DOCTOR_SETTINGS_MAX = 32, /* UCX_… in the environment */
	DOCTOR_TRIED_PORTS_MAX = 16,
	DOCTOR_ADDRESS_BYTES = 16,
};

enum doctor_known { DOCTOR_UNKNOWN, DOCTOR_NO, DOCTOR_YES };

/* A device on PCI Express. */
struct doctor_pci {
	char address[DOCTOR_ADDRESS_BYTES]; /* "0000:19:00.0"; "": not on that bus, or not told */
	char way[DOCTOR_WAY_MAX][DOCTOR_ADDRESS_BYTES]; /* "pci0000:15", bridges, the device itself */
	uint32_t way_count;
	int numa; /* -1: not told */
	uint32_t speed, speed_max; /* tenths of GT/s; 0: not told.  max: of the device and of the port above it */
	uint32_t width, width_max; /* lanes; 0: not told */
	enum doctor_known translated; /* the IOMMU translates its addresses */
	enum doctor_known redirected; /* a switch above sends what goes to a neighbour up to the root (ACS) */
	char redirector[DOCTOR_ADDRESS_BYTES]; /* which */
};

struct doctor_gpu {
	struct doctor_pci pci;
	char name[96];
	bool by_driver; /* the driver knows it */
	bool by_nvml;   /* what follows is told */
	uint64_t memory_bytes;
	int capability; /* 90: 9.0; 0: not told */
	enum doctor_known ecc, persistence, mig, remap_pending, remap_failed;
	uint64_t ecc_uncorrected; /* since the driver was loaded */
	uint64_t throttle;        /* reasons, as NVML numbers them */
	uint32_t power_mw, power_default_mw; /* limits; 0: not told */
	uint32_t link_count, link_up;   /* NVLinks */
	uint32_t links_down[DOCTOR_LINKS_MAX];
	uint32_t link_switches, link_gpus, link_others; /* what is at the other ends of those that are up */
};

struct doctor_gid {
	uint32_t index;
	char text[40];
	bool v2; /* RoCE v2; else RoCE v1 or InfiniBand */
};

/* One port of a NIC that does RDMA. */
struct doctor_port {
	struct doctor_pci pci;
	char device[32];  /* "mlx5_0" */
	uint32_t number;  /* from 1 */
	char net[32];     /* its network device, where it is Ethernet */
	bool ethernet;
	bool active;
	char state[24];   /* "ACTIVE" */
	uint32_t gbits;
	uint32_t gid_count;
	int gid_v4, gid_v6, gid_local; /* the first RoCE v2 index of an IPv4, a global IPv6, a link-local address; -1: none */
	uint8_t gid_v2[DOCTOR_GIDS_MAX / 8]; /* bit i: index i is RoCE v2 */
	uint8_t gid_any[DOCTOR_GIDS_MAX / 8]; /* bit i: there is one */
};

struct doctor_net {
	struct doctor_pci pci;
	char name[32];
	bool physical, up;
	uint32_t mbits; /* 0: not told */
	uint32_t mtu;
};

/* What no file tells: UCX is asked, and what Baton will do is tried. */
struct doctor_live {
	bool tried; /* else: not on this machine, and nothing of the rest is told */
	char ucx_version[16]; /* "": UCX does not start */
	char ucx_error[64];
	bool ucx_cuda; /* memory of GPUs may be registered */
	bool ucx_rma_rails; /* one one-sided read may take several NICs */
	struct ucx_lane lanes[DOCTOR_LANES_MAX];
	uint32_t lane_count;
	enum doctor_known clock_set; /* somebody keeps it right */
	bool has_skew;               /* against etcd */
	int64_t skew_s;              /* ours minus its */
	const char *etcd;            /* as it was asked; the caller's */
	char etcd_error[128];        /* "": it answered */
	char disk[256];        /* "": none was named */
	int disk_error;        /* errno of a file there; 0: fine */
	int direct_error;      /* the same with O_DIRECT */
	int uring_error;       /* io_uring */
	struct {
		uint16_t number;
		bool taken;
	} ports[DOCTOR_TRIED_PORTS_MAX];
	uint32_t port_count;
};

struct doctor_facts {
	struct doctor_gpu gpus[DOCTOR_GPUS_MAX];
	uint32_t gpu_count;
	struct doctor_port ports[DOCTOR_PORTS_MAX];
	uint32_t port_count;
	struct doctor_net nets[DOCTOR_NETS_MAX];
	uint32_t net_count;
	uint32_t left_out; /* devices over the bounds */
	/* the driver of GPUs */
	bool driver;          /* the kernel has it */
	bool driver_open;     /* its open flavour */
	char driver_version[32];
	char nvml_error[96];  /* "": it answers; "not there": no library */
	uint32_t cuda_version; /* 13000; 0: not told */
	bool device_nodes;    /* /dev/nvidiactl */
	bool peermem, gdrcopy; /* kernel modules */
	/* the kernel */
	char kernel[64];
	uint32_t kernel_version; /* 5 * 1000 + 12 */
	bool iommu;              /* one is on */
	bool infiniband_nodes;   /* /dev/infiniband has a uverbs */
	uint64_t lock_bytes;     /* RLIMIT_MEMLOCK; UINT64_MAX: no limit */
	bool has_lock_bytes;
	bool may_lock;           /* CAP_IPC_LOCK: no limit for us */
	uint64_t shm_bytes;      /* of /dev/shm; 0: not told */
	char huge_shared[16], huge_private[16]; /* "never", "advise", …; "": not told */
	uint32_t uring_disabled; /* as the kernel's setting says; 0: allowed */
	bool container;
	const char *settings[DOCTOR_SETTINGS_MAX]; /* "UCX_TLS=rc", in the caller's environment */
	uint32_t setting_count;
	struct doctor_live live;
};

/* Fills in all but `live`.  root: "" is the machine's; nvml: NVIDIA's library, by name or path.  What is not there is no error. */
void doctor_read(const char *root, const char *nvml, char **environment, struct doctor_facts *ret_facts);

/* How two devices reach each other, as nvidia-smi names it: "PIX", "PXB", "PHB", "NODE", "SYS"; "?": not told. */
const char *doctor_distance(const struct doctor_pci *a, const struct doctor_pci *b);
/* 0 for PIX … 4 for SYS, 5 for "?". */
uint32_t doctor_distance_rank(const struct doctor_pci *a, const struct doctor_pci *b);
/* The active port nearest to the GPU, the first of several; NULL: there is none. */
const struct doctor_port *doctor_nearest(const struct doctor_facts *facts, const struct doctor_gpu *gpu);
/* Does UCX have a lane whose transport begins so? */
bool doctor_has_lane(const struct doctor_live *live, const char *transport);

struct doctor_trials {
	const char *disk;   /* folder; NULL: none */
	const uint16_t *ports;
	uint32_t port_count;
	const char *etcd;   /* "http://host:port"; NULL: none */
};
/* Asks UCX, tries the disk and ports, looks at the clock: on this machine, whatever root doctor_read() had. */
void doctor_try(const struct doctor_trials *trials, struct doctor_live *ret_live);
#endif
