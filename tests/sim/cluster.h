/* cluster - coordinators, prefill and decode nodes and stores as the real pure cores, in one simulated world.
 *
 * Owns the world, the cores' memory, the toy engines, and a simulated etcd: a list of members under leases, told to
 * everybody with a delay, and at times away.
 *
 *   cluster -- a world of members, started, killed and started again under a new incarnation
 *   clients -- seeded requests, each checked token by token against the oracle            (clients.h)
 *   faults  -- a seeded plan of what goes wrong, aimed at states of jobs                  (faults.h) */
#ifndef TESTS_SIM_CLUSTER_H
#define TESTS_SIM_CLUSTER_H
#include "base/layer_groups.h"
#include "coordinator/core.h"
#include "kvstore/store.h"
#include "net/sim.h"
#include "node/core.h"
#include "tests/kvstore/crash_disk.h"
#include "tests/sim/toy.h"

#define MS 1000000ull

enum { DISK_SEGMENTS = 5, DISK_SEGMENTS_MANY = 32, DISK_SEGMENT_PAGES = 24, ACKED_MAX = 512, DEAD_MAX = 64 };
enum { MEMBERS_MAX = 12, JOBS_SEEN_MAX = 64, EPOCHS_MAX = 256, SLABS = 12, SLAB_BYTES = 2048, SLAB_SLOTS = 32,
       STORE_GRACE_MS = 300, PINNED_MAX = 5 };

enum member_kind { COORDINATOR, ENGINE, STORE };

/* A block that an operator evicted; note 0: in an earlier life of the store, and that was durable. */
struct disk_dead {
	struct id128 key;
	uint64_t note;
};

/* An offer that a store with a disk heard. */
enum { DISK_OFFERS_MAX = 64 };
struct disk_offer {
	uint32_t from;
	uint64_t op;
	struct id128 key;
};

struct member {
	struct cluster *cluster;
	enum member_kind kind;
	Wire__Role role;
	uint32_t index;  /* in the world and in cluster->members */
	uint64_t node;
	uint64_t incarnation;
	char name[24];
	void *memory;    /* of the core */
	struct coord *coord;
	struct node *engine;
	struct store *store;
	struct toy *toy;
	uint64_t *generations[LAYER_GROUPS_MAX]; /* engine: [block_count] */
	uint32_t structures;   /* engine: taken and not given back */
	/* store: slabs */
	uint8_t *slabs;
	uint64_t slab_generations[SLABS][SLAB_SLOTS];
	uint32_t slab_regions[SLABS]; /* UINT32_MAX: closed */
	uint32_t slab_slot_bytes[SLABS];
	uint32_t region_next;
	struct id128 pinned[SLABS * SLAB_SLOTS]; /* hard, by operators */
	uint32_t pinned_count;
	/* store: its disk, which outlives the process (disk.c) */
	struct crash_disk *disk; /* NULL: none */
	uint64_t disk_kill_at;   /* the process dies during the operation that many later; 0: never */
	uint64_t disk_life;      /* grows when the process dies */
	bool disk_checked;       /* since the start: all that was acknowledged is there */
	struct id128 acked[ACKED_MAX]; /* said to be durable, and not gone */
	uint32_t acked_count;
	struct disk_dead dead[DEAD_MAX]; /* evicted by operators and not offered since */
	uint32_t dead_count;
	struct disk_offer offers[DISK_OFFERS_MAX]; /* heard last, in a ring */
	uint32_t offer_next;
	/* its number (net/claim.h) */
	bool starting;           /* waits for etcd to give one */
	bool claiming;           /* was refused: will look who has its name */
	uint64_t wall_back_ms;   /* its wall clock is behind by that */
	uint64_t beaten;         /* the highest it was refused for */
	uint64_t outranked, renewed; /* how often */
	/* in etcd */
	uint64_t claimed;        /* the number that etcd has of this name; 0: none */
	bool claimed_here;       /* by the process that runs */
	uint64_t lease_until_ns; /* 0: no key */
	uint64_t register_ns;    /* its key vanished: it says it again then */
	uint64_t key_incarnation;
	/* leading: of a coordinator in etcd, and what a node has seen */
	uint64_t life;               /* processes so far */
	uint64_t candidacy;          /* 0: no key */
	uint64_t candidate_life;
	uint64_t lead_until_ns;      /* its lease, by etcd's clock */
	uint64_t lead_until_local_ns;
	uint64_t lead_told_ns;
	uint64_t etcd_cut_until_ns;  /* it alone does not reach etcd */
	uint64_t epoch_beaten, epoch_seen;
	uint64_t epoch_claimed, epoch_claimed_wipes; /* after so many wipes of etcd */
	uint64_t ticks;
	uint64_t silent_since_ns; /* dead or stopped; 0: neither */
	uint64_t silent_incarnation;
	uint64_t awake_since_ns;
	uint64_t told_ns;        /* when the last news arrives here: news stay in order */
};

/* A half of a job that some node was asked for: so that faults know what goes on. */
struct job_seen {
	uint64_t coordinator, number;
	uint32_t attempt;
	uint32_t member;
};

struct clients;
struct faults;
struct promises;

/* What a seed draws and yet does not happen: to find out what a violation needs. */
struct cluster_cut {
	uint64_t faults;      /* a bit each, in the order in which they were drawn */
	uint64_t requests[2];
};

struct cluster_options {
	struct cluster_cut cut;
	uint64_t seed;
	bool story;
	bool frames; /* the story tells every frame too */
	uint32_t coordinators, prefills, decodes, boths, stores;
	enum toy_kind kind;
	uint32_t block_count; /* of an engine; of a windowed group half as many */
	uint32_t chunk_tokens;
	uint32_t seq_max;     /* sequences in an engine's schedule */
	uint64_t layer_ns;
	uint32_t replicas;
	uint32_t store_slabs;
	bool decode_dials;    /* decode nodes have the smaller ids */
	bool refused_link;    /* the first decode node cannot read the first prefill node */
	bool disks;           /* of stores */
	uint32_t disk_segments;
	bool disks_ack;       /* an offer is done when the block is durable */
	struct crash_disk_faults disk_faults;
	uint64_t disk_kill_at; /* the first store dies during that operation, counting: */
	bool disk_kill_footer; /* footers only; else all but reads */
};

/* What stores with disks have done. */
struct disk_totals {
	uint64_t hits, puts, kept, gone, bad, recovered, kills, struck;
};

/* Whose directives with that epoch were taken. */
struct epoch_holder {
	uint64_t epoch, wipes;
	uint32_t coordinator;
};

struct cluster {
	struct cluster_options options;
	struct sim *sim;
	struct member members[MEMBERS_MAX];
	uint32_t member_count;
	struct job_seen jobs[JOBS_SEEN_MAX];
	uint32_t job_next;
	uint64_t heard_ns[MEMBERS_MAX][MEMBERS_MAX]; /* [from][to]: the last frame delivered */
	uint64_t etcd_away_until_ns;
	uint64_t kills, wipes, renewals;
	uint64_t revision, leader_candidacy, epoch_stored, epoch_wipes;
	struct epoch_holder epochs[EPOCHS_MAX];
	uint64_t directives, directives_refused, drains, pins, pins_refused;
	struct disk_totals disk_totals; /* of lives of stores that are over */
	struct clients *clients;
	struct faults *faults;
	struct promises *promises;
	uint64_t lives[MEMBERS_MAX][MEMBERS_MAX]; /* [who][of whom]: the highest incarnation it had a session with */
	uint64_t told_refused[MEMBERS_MAX]; /* [coordinator]: the life of the prefill node that it is not to pair (links.c); 0: none */
};

uint32_t cluster_block_count(const struct cluster *cluster, uint32_t group);
/* So far, of all lives of all stores. */
struct disk_totals cluster_disks(const struct cluster *cluster);
struct cluster *cluster_create(const struct cluster_options *options);
void cluster_destroy(struct cluster *cluster);
/* A process comes up, as soon as etcd gives it an incarnation. */
void cluster_start(struct cluster *cluster, uint32_t member);
void cluster_kill(struct cluster *cluster, uint32_t member);
/* Nothing is left that anybody waits for, and every invariant of the cores holds; why not otherwise. */
bool cluster_quiet(const struct cluster *cluster, char *why, size_t why_bytes);
/* Everybody who should have a session with somebody has one. */
bool cluster_whole(const struct cluster *cluster, char *why, size_t why_bytes);
/* Every block that a store has is with all its owners, but for those that had to evict something. */
bool cluster_copied(const struct cluster *cluster, char *why, size_t why_bytes);
/* A store begins to leave; has it handed over?  Then it is killed, when all that it had is with others. */
void cluster_leave(struct cluster *cluster, uint32_t member);
bool cluster_left(struct cluster *cluster, uint32_t member);
/* Every coordinator's index counts what the nodes have (when nothing happens any more). */
bool cluster_indexed(const struct cluster *cluster, char *why, size_t why_bytes);
/* What may happen to etcd, besides being away: its data are lost; the lease of one member is revoked. */
void cluster_wipe_etcd(struct cluster *cluster);
void cluster_revoke(struct cluster *cluster, uint32_t member);
/* Operators ask every coordinator to drain a node, and a while later to undrain it; some do not reach a leader. */
void lead_draw_drains(struct cluster *cluster, uint32_t count, uint64_t from_ns, uint64_t to_ns);
/* Until no node drains: there must be a leader soon. */
void lead_undrain_all(struct cluster *cluster);
/* Operators pin, unpin and evict blocks of stores, now and again. */
void pins_draw(struct cluster *cluster, uint32_t count, uint64_t from_ns, uint64_t to_ns);
/* A sentence that names the seed, then the story so far, then abort(). */
void cluster_fail(struct cluster *cluster, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
#endif
