#include "net/process.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "net/bulk.h"
#include "net/device.h"
#include "net/etcd.h"
#include "net/exposure.h"
#include "net/incarnation.h"
#include "net/loop.h"
#include "net/rails.h"
#include "net/tls.h"
#include "net/url.h"

enum { BUFFER_MAPPED_BYTES = 64 << 10 };

static const uint64_t DRAIN_CHECK_NS = 20000000;
static const uint64_t LEAVE_NS = 300000000; /* for the lease to be revoked */

struct process {
	struct process_settings settings;
	struct process_core core;
	struct member self;
	uint64_t incarnation;
	uint64_t life; /* random: tells this process from others of its name */
	struct loop *loop;
	struct tls *tls;        /* NULL: plain */
	struct url url;         /* of listen */
	char link_host[DEVICE_ADDRESS_MAX]; /* of a trusted network */
	char listen[URL_HOST_MAX + 32];
	enum link_transport transport;
	uint32_t required; /* link_options.required */
	struct link *link;
	struct shell *shell;
	struct etcd *etcd;
	struct membership *membership;
	struct loop_signal *signals[2];
	struct loop_timer *drain_timer;
	uint64_t drain_until_ns;
	uint64_t leave_ns; /* 0: still draining */
	bool joined;
	bool ended;    /* a signal before process_join() */
	bool draining;
	bool registered;
	uint64_t replaced_by; /* the incarnation that has our name; 0: we have it */
	struct buf link_address;
};

void process_defaults(struct process_settings *settings, const char *name)
{
	*settings = (struct process_settings){
		.name = name,
		.listen = "tcp://127.0.0.1:0",
		.etcd = {.count = 1, .items = {"http://127.0.0.1:2379"}},
		.etcd_timeout_s = 60,
		.cluster = "default",
		.link_transport = "auto",
		.link_lanes = 2,
		.nodes_max = 256,
		.time_factor = 1,
		.shutdown_timeout_s = 20, /* a pod has 30 s: the rest is for leaving */
		.log_level = "info",
	};
}

void process_options(struct process_settings *s, struct option *ret_rows)
{
	const struct option rows[PROCESS_OPTIONS] = {
		{"name", OPTION_TEXT, &s->name, 0, 0, "NAME", "of this node; the same name after a restart is the same node"},
		{"listen", OPTION_TEXT, &s->listen, 0, 0, "URL", "control streams; port 0 takes a free one"},
		{"advertise-host", OPTION_TEXT, &s->advertise_host, 0, 0, "HOST", "as peers reach it; default: that of --listen"},
		{"etcd", OPTION_LIST, &s->etcd, 0, 0, "URL,…", "endpoints of etcd"},
		{"etcd-cacert", OPTION_TEXT, &s->etcd_ca, 0, 0, "FILE", "whom etcd's certificate is signed by; for https"},
		{"etcd-cert", OPTION_TEXT, &s->etcd_certificate, 0, 0, "FILE", "our certificate for etcd"},
		{"etcd-key", OPTION_TEXT, &s->etcd_key, 0, 0, "FILE", "its key"},
		{"etcd-user", OPTION_TEXT, &s->etcd_user, 0, 0, "NAME", "as whom to come to etcd, where it wants passwords"},
		{"etcd-password-file", OPTION_TEXT, &s->etcd_password_file, 0, 0, "FILE", "its password: the first line"},
		{"etcd-timeout", OPTION_COUNT, &s->etcd_timeout_s, 1, 86400, "S", "seconds to wait for etcd at start"},
		{"cluster", OPTION_TEXT, &s->cluster, 0, 0, "NAME", "clusters of other names share nothing"},
		{"link-transport", OPTION_TEXT, &s->link_transport, 0, 0, "KIND", "auto, mapped, tls, tcp, ucx-tcp, ucx-shm, ucx-rdma"},
		{"require-transport", OPTION_LIST, &s->require_transport, 0, 0, "KIND,…", "refuse a link over anything but these: mapped, rdma, ucx-shm, ucx-tcp, tls, tcp"},
		{"link-port", OPTION_COUNT, &s->link_port, 0, 65535, "PORT", "where peers read KV over tls or tcp; 0 takes a free one"},
		{"link-lanes", OPTION_COUNT, &s->link_lanes, 1, BULK_LANES_MAX, "N", "threads that carry KV over tls or tcp, and connections to a peer"},
		{"link-network", OPTION_TEXT, &s->link_network, 0, 0, "DEVICE,…", "devices of networks that nobody else reaches: allows UCX there, and tcp at one"},
		{"tls-ca-file", OPTION_TEXT, &s->tls_ca_file, 0, 0, "PEM", "whose certificates are trusted: control streams and bulk"},
		{"tls-cert-file", OPTION_TEXT, &s->tls_cert_file, 0, 0, "PEM", "of this node: spiffe://<cluster>/baton/<role>/<name>"},
		{"tls-key-file", OPTION_TEXT, &s->tls_key_file, 0, 0, "PEM", "of that certificate; mode 600"},
		{"insecure", OPTION_FLAG, &s->insecure, 0, 0, NULL, "listen beyond this machine also without TLS"},
		{"max-nodes", OPTION_COUNT, &s->nodes_max, 2, 4096, "N", "members of the cluster: a session with one more is refused"},
		{"time-factor", OPTION_COUNT, &s->time_factor, 1, 100, "N", "stretches heartbeats on slow machines"},
		{"shutdown-timeout", OPTION_COUNT, &s->shutdown_timeout_s, 0, 86400, "S", "seconds to drain after SIGTERM"},
		{"log-level", OPTION_TEXT, &s->log_level, 0, 0, "LEVEL", "debug, info, warn, error"},
		{"log-json", OPTION_FLAG, &s->log_json, 0, 0, NULL, "log lines as JSON"},
	};
	memcpy(ret_rows, rows, sizeof(rows));
}

static enum err start_log(const struct process_settings *s, struct why *why)
{
	static const char *const levels[] = {"debug", "info", "warn", "error"};
	for (int i = 0; i < 4; i++) {
		if (strcmp(s->log_level, levels[i]) != 0)
			continue;
		log_init(s->name, (enum log_level)i, s->log_json);
		return ERR_OK;
	}
	return why_set(why, ERR_INVALID, "--log-level \"%s\", expected debug, info, warn or error", s->log_level);
}

static void leave(struct process *p)
{
	if (p->membership)
		membership_leave(p->membership);
	p->leave_ns = loop_now_ns(p->loop) + LEAVE_NS;
}

static void drain_check(struct loop_timer *timer, void *arg)
{
	struct process *p = arg;
	uint64_t now_ns = loop_now_ns(p->loop);
	loop_timer_arm(timer, DRAIN_CHECK_NS);
	if (p->leave_ns) {
		if (now_ns >= p->leave_ns)
			loop_stop(p->loop);
		return;
	}
	bool late = now_ns >= p->drain_until_ns;
	if (late)
		log_warn("not drained after %llu s; leaving all the same", (unsigned long long)p->settings.shutdown_timeout_s);
	if (late || !p->core.drained || p->core.drained(p->core.context))
		leave(p);
}

static void on_signal(struct loop_signal *signal, int number, void *arg)
{
	(void)signal;
	struct process *p = arg;
	if (!p->joined)
		p->ended = true;
	if (p->draining || p->ended) {
		loop_stop(p->loop);
		return;
	}
	log_info("signal %d: draining", number);
	p->draining = true;
	p->drain_until_ns = loop_now_ns(p->loop) + p->settings.shutdown_timeout_s * 1000000000ull;
	if (p->core.drain)
		p->core.drain(p->core.context);
	loop_timer_arm(p->drain_timer, 0);
}

static void on_link_lost(void *context, uint64_t node, uint64_t incarnation, enum err e)
{
	(void)incarnation;
	struct process *p = context;
	if (p->shell)
		shell_link_lost(p->shell, node, e == ERR_UNSUPPORTED);
}

/* On a network that nobody else reaches KV goes in the clear, also where control streams do not: then it is served at that
 * device's address alone (docs/decisions/trusted-networks-in-the-clear.md). */
static enum err use_trusted_network(struct process *p, struct link_options *options, struct why *why)
{
	if (p->transport != LINK_TCP || !p->settings.link_network)
		return ERR_OK;
	options->tls = NULL;
	options->bulk_host = p->link_host;
	options->bulk_advertise = NULL;
	return device_address(p->settings.link_network, p->link_host, why);
}

static enum err open_link(struct process *p, struct why *why)
{
	struct link_options options = {.on_peer_lost = on_link_lost, .context = p, .node = process_node(p), .incarnation = p->incarnation,
				       .transport = p->transport, .required = p->required, .network = p->settings.link_network, .tls = p->tls, .bulk_host = p->url.host,
				       .bulk_advertise = p->settings.advertise_host, .bulk_port = (uint16_t)p->settings.link_port,
				       .bulk_lanes = (uint32_t)p->settings.link_lanes};
	enum err e = use_trusted_network(p, &options, why);
	if (e == ERR_OK)
		e = link_create(p->loop, &options, &p->link, why);
	return e == ERR_OK ? link_local_address(p->link, &p->link_address) : e;
}

/* All three files or none. */
static enum err open_tls(struct process *p, struct why *why)
{
	const struct process_settings *s = &p->settings;
	struct tls_options options = {s->tls_ca_file, s->tls_cert_file, s->tls_key_file, s->cluster};
	int given = !!s->tls_ca_file + !!s->tls_cert_file + !!s->tls_key_file;
	if (given == 0)
		return ERR_OK;
	if (given < 3)
		return why_set(why, ERR_INVALID, "--tls-ca-file, --tls-cert-file and --tls-key-file go together: %s is missing",
			       !s->tls_ca_file ? "--tls-ca-file" : !s->tls_cert_file ? "--tls-cert-file" : "--tls-key-file");
	enum err e = tls_create(&options, &p->tls, why);
	if (e == ERR_OK && strcmp(tls_self(p->tls)->name, s->name) != 0)
		e = why_set(why, ERR_INVALID, "--tls-cert-file %s is of \"%s\", this is --name \"%s\"", s->tls_cert_file,
			    tls_self(p->tls)->name, s->name);
	return e;
}

static enum err check_role(const struct process *p, Wire__Role role, struct why *why)
{
	const struct identity *self = tls_self(p->tls);
	if (!self || identity_has_role(self, role))
		return ERR_OK;
	return why_set(why, ERR_INVALID, "--tls-cert-file %s is of a %s, this is a %s", p->settings.tls_cert_file, self->role,
		       member_role_text(role));
}

/* "tcp://host:port" with certificates means TLS; without, it must not leave this machine. */
static enum err check_listen(struct process *p, struct why *why)
{
	const char *listen = p->settings.listen;
	struct url url = {0};
	enum err e = url_parse(listen, why, &url);
	if (e == ERR_OK && url.is_ipc)
		return why_set(why, ERR_INVALID, "--listen %s: peers dial tcp://host:port", listen);
	if (e == ERR_OK && url.is_tls && !p->tls)
		return why_set(why, ERR_INVALID, "--listen %s: needs --tls-ca-file, --tls-cert-file and --tls-key-file", listen);
	if (e == ERR_OK)
		e = exposure_check("--listen", url.host, p->tls != NULL, p->settings.insecure,
				   "--tls-ca-file, --tls-cert-file and --tls-key-file", why);
	if (e != ERR_OK)
		return e;
	p->url = url;
	bool six = strchr(url.host, ':') != NULL;
	snprintf(p->listen, sizeof(p->listen), "%s://%s%s%s:%u", p->tls ? "tls+tcp" : "tcp", six ? "[" : "", url.host,
		 six ? "]" : "", url.port);
	return ERR_OK;
}

static void on_outranked(void *context, uint64_t incarnation, bool lives)
{
	struct process *p = context;
	if (p->membership)
		membership_outranked(p->membership, incarnation, lives);
}

/* What the link would refuse later, before anybody is waited for. */
static enum err check_link(struct process *p, struct why *why)
{
	const char *text = p->settings.link_transport;
	const struct option_list *required = &p->settings.require_transport;
	enum err e = link_transport_parse(text, &p->transport, why);
	if (e == ERR_OK && required->count > 0) {
		e = link_require_parse(required->items, required->count, &p->required, why);
		if (e != ERR_OK)
			why_prefix(why, "--require-transport");
	}
	bool over_ucx_net = p->transport == LINK_UCX_TCP || p->transport == LINK_UCX_RDMA;
	if (e == ERR_OK && over_ucx_net && !p->settings.link_network)
		e = why_set(why, ERR_INVALID, "--link-transport %s: UCX trusts whoever reaches its port, so it wants "
			    "--link-network DEVICE, a network that nobody else reaches (lo: this machine)", text);
	struct rails rails = {0};
	if (e == ERR_OK && p->settings.link_network) {
		e = rails_parse(p->settings.link_network, &rails, why);
		if (e != ERR_OK)
			why_prefix(why, "--link-network");
	}
	if (e == ERR_OK && p->transport == LINK_TCP && rails.count > 1)
		e = why_set(why, ERR_INVALID, "--link-network %s: tcp is served at one device, only UCX takes several", p->settings.link_network);
	if (e == ERR_OK && p->transport == LINK_TLS && !p->tls)
		e = why_set(why, ERR_INVALID, "--link-transport tls needs certificates: --tls-ca-file and the others");
	if (e == ERR_OK && p->transport == LINK_TCP && p->tls && !p->settings.link_network)
		e = why_set(why, ERR_INVALID, "--link-transport tcp is in the clear, but certificates are given: expected tls, or "
			    "--link-network DEVICE, a network that nobody else reaches");
	return e;
}

static enum err open_shell(struct process *p, const struct process_parts *parts, struct why *why)
{
	struct shell_options options = {
		.listen_url = p->listen,
		.cluster = p->settings.cluster,
		.tls = p->tls,
		.link = p->link,
		.link_required = p->required,
		.read_max = parts->read_max,
		.peer_max = (uint32_t)p->settings.nodes_max,
		.context = parts->context,
		.landing = parts->landing,
		.twin = parts->twin,
		.outranked_context = p,
		.outranked = on_outranked,
		.trace = log_enabled(LOG_DEBUG),
	};
	return shell_create(p->loop, &options, &p->shell, why);
}

static void on_etcd_state(struct etcd *etcd, bool up, const char *text, void *arg)
{
	(void)etcd;
	(void)arg;
	if (up)
		log_info("etcd answers");
	else
		log_warn("etcd is away (%s); going on with the last view", text);
}

/* The first line of the file. */
static enum err read_password(const char *path, char *ret_password, size_t size, struct why *why)
{
	FILE *file = fopen(path, "re");
	if (!file)
		return why_set(why, ERR_IO, "--etcd-password-file %s: %m", path);
	bool read = fgets(ret_password, (int)size, file) != NULL;
	fclose(file);
	ret_password[read ? strcspn(ret_password, "\r\n") : 0] = 0;
	if (!ret_password[0] || strlen(ret_password) + 1 == size)
		return why_set(why, ERR_INVALID, "--etcd-password-file %s: expected a first line of 1 to %zu characters", path,
			       size - 2);
	return ERR_OK;
}

static enum err open_etcd(struct process *p, struct why *why)
{
	char password[258] = "";
	enum err e = ERR_OK;
	if (!p->settings.etcd_user != !p->settings.etcd_password_file)
		return why_set(why, ERR_INVALID, "--etcd-user and --etcd-password-file want each other");
	if (p->settings.etcd_password_file)
		e = read_password(p->settings.etcd_password_file, password, sizeof(password), why);
	if (e != ERR_OK)
		return e;
	struct etcd_options options = {
		.endpoints = p->settings.etcd.items,
		.endpoint_count = p->settings.etcd.count,
		.ca_file = p->settings.etcd_ca,
		.certificate_file = p->settings.etcd_certificate,
		.key_file = p->settings.etcd_key,
		.user = p->settings.etcd_user,
		.password = password,
		.on_state = on_etcd_state,
	};
	if (!p->settings.etcd_certificate != !p->settings.etcd_key)
		return why_set(why, ERR_INVALID, "--etcd-cert and --etcd-key want each other");
	e = etcd_create(p->loop, &options, &p->etcd, why);
	explicit_bzero(password, sizeof(password));
	return e;
}

uint64_t process_wall_ns(void)
{
	struct timespec wall;
	clock_gettime(CLOCK_REALTIME, &wall);
	return (uint64_t)wall.tv_sec * 1000000000u + (uint64_t)wall.tv_nsec;
}

static enum err take_incarnation(struct process *p, struct why *why)
{
	if (getrandom(&p->life, sizeof(p->life), 0) != sizeof(p->life))
		return why_set(why, ERR_IO, "getrandom: %m");
	struct incarnation_options options = {
		.etcd = p->etcd,
		.endpoints = &p->settings.etcd,
		.cluster = p->settings.cluster,
		.name = p->settings.name,
		.life = p->life,
		.wall_ns = process_wall_ns(),
		.timeout_ns = p->settings.etcd_timeout_s * 1000000000u,
		.stop = &p->ended,
	};
	return incarnation_claim(p->loop, &options, &p->incarnation, why);
}

/* Everything up to the incarnation; link and shell bear it. */
static enum err open_first(struct process *p, const struct process_parts *parts, struct why *why)
{
	enum err e = loop_create(&p->loop);
	if (e == ERR_OK)
		e = loop_timer_create(p->loop, drain_check, p, &p->drain_timer);
	for (int i = 0; i < 2 && e == ERR_OK; i++)
		e = loop_signal_create(p->loop, i ? SIGINT : SIGTERM, on_signal, p, &p->signals[i]);
	if (e == ERR_OK)
		e = open_tls(p, why);
	if (e == ERR_OK)
		e = check_role(p, parts->role, why);
	if (e == ERR_OK)
		e = check_listen(p, why);
	if (e == ERR_OK && parts->with_link)
		e = check_link(p, why);
	if (e == ERR_OK)
		e = open_etcd(p, why);
	return e == ERR_OK ? take_incarnation(p, why) : e;
}

/* What is asked of the system before anything else. */
static void settle_limits(void)
{
	/* Memory holds prompts, KV and digests of keys: none of it belongs in a file that a crash leaves behind. */
	(void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	/* Every client and peer is a descriptor; the soft limit of most systems is 1024. */
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	/* Buffers of streams, bodies and answers come and go in bursts.  glibc raises its threshold with the first that is freed;
	 * from then on they are pieces of the heap, which small things that outlive them keep large.  One that stays where it is
	 * gives each of them back. */
	(void)mallopt(M_MMAP_THRESHOLD, BUFFER_MAPPED_BYTES);
}

enum err process_open(const struct process_settings *settings, const struct process_parts *parts,
		      struct process **ret_process, struct why *why)
{
	enum err e = start_log(settings, why);
	if (e != ERR_OK)
		return e;
	if (!settings->name || !*settings->name || strlen(settings->name) > MEMBER_NAME_MAX || strchr(settings->name, '/'))
		return why_set(why, ERR_INVALID, "--name wants 1 to %d characters without a slash", MEMBER_NAME_MAX);
	settle_limits();
	struct process *p = calloc(1, sizeof(*p));
	if (!p)
		return ERR_NOMEM;
	p->settings = *settings;
	e = open_first(p, parts, why);
	if (e == ERR_OK && parts->with_link)
		e = open_link(p, why);
	if (e == ERR_OK)
		e = open_shell(p, parts, why);
	if (e != ERR_OK) {
		process_close(p);
		return e;
	}
	*ret_process = p;
	return ERR_OK;
}

struct loop *process_loop(struct process *p)
{
	return p->loop;
}

struct etcd *process_etcd(struct process *p)
{
	return p->etcd;
}

struct link *process_link(struct process *p)
{
	return p->link;
}

const struct env *process_env(struct process *p)
{
	return shell_env(p->shell);
}

struct tls *process_tls(struct process *p)
{
	return p->tls;
}

uint64_t process_node(const struct process *p)
{
	return member_node_id(p->settings.name);
}

uint64_t process_incarnation(const struct process *p)
{
	return p->incarnation;
}

const uint8_t *process_link_address(const struct process *p, size_t *ret_length)
{
	*ret_length = p->link_address.length;
	return (const uint8_t *)p->link_address.data;
}

static void on_member(void *context, const struct member *member)
{
	struct process *p = context;
	if (member->node == process_node(p))
		return;
	if (wire_address_set(shell_wire(p->shell), member->node, member->url) != ERR_OK)
		log_warn("no room for the address of %s", member->name);
	if (p->core.on_member)
		p->core.on_member(p->core.context, member, loop_now_ns(p->loop));
}

static void on_gone(void *context, uint64_t node)
{
	struct process *p = context;
	if (p->core.on_gone && node != process_node(p))
		p->core.on_gone(p->core.context, node, loop_now_ns(p->loop));
}

static void on_synced(void *context)
{
	struct process *p = context;
	if (p->core.on_synced)
		p->core.on_synced(p->core.context, loop_now_ns(p->loop));
}

static void on_renewed(void *context, uint64_t incarnation)
{
	struct process *p = context;
	p->incarnation = p->self.incarnation = incarnation;
	if (p->link)
		link_renew(p->link, incarnation);
	buf_clear(&p->link_address);
	if (p->link && link_local_address(p->link, &p->link_address) != ERR_OK) {
		log_error("no memory for an address; ending"); /* without one nobody could read here */
		loop_stop(p->loop);
		return;
	}
	p->core.renew(p->core.context, incarnation, (const uint8_t *)p->link_address.data, p->link_address.length,
		      loop_now_ns(p->loop));
}

static void on_replaced(void *context, uint64_t incarnation)
{
	struct process *p = context;
	p->replaced_by = incarnation;
	loop_stop(p->loop);
}

static void on_state(void *context, bool registered)
{
	struct process *p = context;
	if (registered && !p->registered)
		log_info("registered in etcd as %s", p->settings.name);
	p->registered = registered;
}

/* "tcp://127.0.0.1:0" becomes what peers dial: the host as advertised and the port really bound. */
static void own_url(const struct process *p, char *ret_url, size_t size)
{
	const char *colon = strrchr(p->listen, ':');
	uint16_t port = wire_port(shell_wire(p->shell));
	if (p->settings.advertise_host)
		snprintf(ret_url, size, "%s://%s:%u", p->tls ? "tls+tcp" : "tcp", p->settings.advertise_host, port);
	else
		snprintf(ret_url, size, "%.*s:%u", (int)(colon - p->listen), p->listen, port);
}

enum err process_join(struct process *p, const struct process_core *core, const struct member *self, struct why *why)
{
	p->core = *core;
	if (self)
		p->self = *self;
	p->self.node = process_node(p);
	p->self.incarnation = p->incarnation;
	p->self.pid = (uint32_t)getpid();
	snprintf(p->self.name, sizeof(p->self.name), "%s", p->settings.name);
	own_url(p, p->self.url, sizeof(p->self.url));
	shell_attach(p->shell, &p->core.shell);
	struct membership_options options = {
		.etcd = p->etcd,
		.cluster = p->settings.cluster,
		.self = self ? &p->self : NULL,
		.life = p->life,
		.context = p,
		.on_member = on_member,
		.on_gone = on_gone,
		.on_synced = on_synced,
		.on_state = on_state,
		.on_renewed = on_renewed,
		.on_replaced = on_replaced,
	};
	if (p->tls && self)
		log_info("peers need a certificate of cluster \"%s\"", p->settings.cluster);
	p->joined = true;
	if (self)
		log_info("%s listens at %s", member_role_text(p->self.role), p->self.url);
	if (p->ended)
		loop_stop(p->loop);
	enum err e = membership_create(p->loop, &options, &p->membership);
	return e == ERR_OK ? ERR_OK : why_set(why, e, "no membership: out of memory");
}

enum err process_run(struct process *p, struct why *why)
{
	loop_run(p->loop);
	if (!p->replaced_by)
		return ERR_OK;
	return why_set(why, ERR_STALE,
		       "another process has the name %s now (incarnation %llu, this one is %llu): this one ends, so that no two "
		       "speak for one node",
		       p->settings.name, (unsigned long long)p->replaced_by, (unsigned long long)p->incarnation);
}

void process_detach(struct process *p)
{
	if (p && p->shell)
		shell_detach(p->shell);
	if (p && p->link)
		link_drop_device(p->link);
}

void process_close(struct process *p)
{
	if (!p)
		return;
	membership_destroy(p->membership);
	etcd_destroy(p->etcd);
	if (p->link)
		link_destroy(p->link);
	shell_destroy(p->shell);
	tls_destroy(p->tls);
	loop_timer_destroy(p->drain_timer);
	for (int i = 0; i < 2; i++)
		loop_signal_destroy(p->signals[i]);
	if (p->loop)
		loop_destroy(p->loop);
	buf_fini(&p->link_address);
	free(p);
}
