/* process - what every long-running program of Baton has in common: settings, loop, link, shell, membership, and an
 * orderly end on SIGTERM or SIGINT (drain, then leave; a second signal leaves at once).
 *
 * It starts by asking etcd for an incarnation (net/claim.h), and waits for that; afterwards it lives without etcd.
 *
 * Owns:   all of these, and the etcd client.
 * Loop:   its own; process_run() is main's thread.
 * Rules:  0 without TLS nothing listens beyond this machine (net/exposure.h); with it, nothing speaks without it, and
 *           the certificate must name this node and its role;
 *         1 process_open(), then make the core with process_env(), then process_join(), then process_run();
 *         2 after process_run() the core hears nothing any more: close the process, then free the core. */
#ifndef NET_PROCESS_H
#define NET_PROCESS_H
#include <stdbool.h>
#include "base/options.h"
#include "net/link.h"
#include "net/member.h"
#include "net/shell.h"

struct process;
struct tls;

struct process_settings {
	const char *name;
	const char *listen;         /* "tcp://127.0.0.1:0" */
	const char *advertise_host; /* NULL: that of listen */
	struct option_list etcd;
	const char *etcd_ca, *etcd_certificate, *etcd_key; /* PEM files, for https */
	const char *etcd_user, *etcd_password_file;
	uint64_t etcd_timeout_s;    /* at the start; later etcd may be away for ever */
	const char *cluster;
	const char *link_transport; /* "auto", "mapped", … */
	struct option_list require_transport; /* what alone may carry reads; none: anything */
	uint64_t link_port;         /* of bulk, at the host of `listen`; 0: a free one */
	uint64_t link_lanes;        /* threads of bulk, and connections to a peer */
	const char *link_network;   /* devices of trusted networks (rails.h); NULL: none, so no UCX between hosts */
	const char *tls_ca_file, *tls_cert_file, *tls_key_file; /* all or none */
	bool insecure;              /* listeners beyond this machine without TLS */
	uint64_t nodes_max;         /* sessions with others, and links */
	uint64_t time_factor;
	uint64_t shutdown_timeout_s;
	const char *log_level;      /* "debug", "info", "warn", "error" */
	bool log_json;
};

enum { PROCESS_OPTIONS = 25 };

void process_defaults(struct process_settings *settings, const char *name);
/* Rows for the program's option table: writes PROCESS_OPTIONS of them. */
void process_options(struct process_settings *settings, struct option *ret_rows);

struct process_parts {
	Wire__Role role; /* the certificate must be of one */
	bool with_link;
	uint32_t read_max;
	void *context;
	void *(*landing)(void *context, uint32_t landing, uint32_t offset);
	void *(*twin)(void *context, uint32_t landing, uint32_t offset); /* NULL: no device (net/shell.h) */
};
MUST_USE enum err process_open(const struct process_settings *settings, const struct process_parts *parts,
			       struct process **ret_process, struct why *why);

/* The wall clock, which nothing here depends on but the numbers of net/claim.h, by their lower bound. */
uint64_t process_wall_ns(void);
struct loop *process_loop(struct process *process);
struct etcd *process_etcd(struct process *process);
struct link *process_link(struct process *process);
/* After process_run(): the core hears nothing any more, and what it works with, a device too (link_drop_device()), may go
 * before process_close(). */
void process_detach(struct process *process);
const struct env *process_env(struct process *process);
/* Ours, for control streams and bulk; NULL: plain. */
struct tls *process_tls(struct process *process);
uint64_t process_node(const struct process *process);
uint64_t process_incarnation(const struct process *process);
const uint8_t *process_link_address(const struct process *process, size_t *ret_length);

struct process_core {
	struct shell_core shell;
	void *context;
	void (*on_member)(void *context, const struct member *member, uint64_t now_ns);
	void (*on_gone)(void *context, uint64_t node, uint64_t now_ns);
	/* Who is a member has been told for the first time, or again after a gap.  May be NULL, as those above. */
	void (*on_synced)(void *context, uint64_t now_ns);
	/* The signal came: take no new work. */
	void (*drain)(void *context);
	/* Nothing is left that anybody waits for. */
	bool (*drained)(void *context);
	/* The process goes on under a higher incarnation: sessions_renew(). */
	void (*renew)(void *context, uint64_t incarnation, const uint8_t *link_address, size_t link_address_length,
		      uint64_t now_ns);
};
/* Fills in node, incarnation, name, pid and url of `self`, and announces it.  NULL: this process is no member, it only sees
 * who is one. */
MUST_USE enum err process_join(struct process *process, const struct process_core *core, const struct member *self,
			       struct why *why);
/* Until it has left.  STALE: another process has this one's name now, so this one must not go on. */
MUST_USE enum err process_run(struct process *process, struct why *why);
void process_close(struct process *process);
#endif
