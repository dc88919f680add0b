#include "net/process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "net/loop.h"

static const uint64_t DRAIN_CHECK_NS = 20000000;
static const uint64_t LEAVE_NS = 300000000; /* for the lease to be revoked */

struct process {
	struct process_settings settings;
	struct process_core core;
	struct member self;
	uint64_t incarnation;
	struct loop *loop;
	struct link *link;
	struct shell *shell;
	struct membership *membership;
	struct loop_signal *signals[2];
	struct loop_timer *drain_timer;
	uint64_t drain_until_ns;
	uint64_t leave_ns; /* 0: still draining */
	bool draining;
	bool registered;
	struct buf link_address;
};

void process_defaults(struct process_settings *settings, const char *name)
{
	*settings = (struct process_settings){
		.name = name,
		.listen = "tcp://127.0.0.1:0",
		.etcd = {.count = 1, .items = {"http://127.0.0.1:2379"}},
		.cluster = "default",
		.link_transport = "auto",
		.time_factor = 1,
		.shutdown_timeout_s = 30,
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
		{"cluster", OPTION_TEXT, &s->cluster, 0, 0, "NAME", "clusters of other names share nothing"},
		{"link-transport", OPTION_TEXT, &s->link_transport, 0, 0, "KIND", "auto, mapped, ucx-tcp, ucx-shm, ucx-rdma"},
		{"link-network", OPTION_TEXT, &s->link_network, 0, 0, "DEVICE", "trusted network device for UCX; default: lo"},
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
	if (p->draining) {
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
	(void)e; /* the link said so in the log */
	struct process *p = context;
	if (p->shell)
		shell_link_lost(p->shell, node);
}

static enum err open_link(struct process *p, struct why *why)
{
	struct link_options options = {.on_peer_lost = on_link_lost, .context = p, .node = process_node(p), .incarnation = p->incarnation,
				       .network = p->settings.link_network};
	enum err e = link_transport_parse(p->settings.link_transport, &options.transport, why);
	if (e == ERR_OK)
		e = link_create(p->loop, &options, &p->link, why);
	return e == ERR_OK ? link_local_address(p->link, &p->link_address) : e;
}

static enum err open_shell(struct process *p, const struct process_parts *parts, struct why *why)
{
	struct shell_options options = {
		.listen_url = p->settings.listen,
		.link = p->link,
		.read_max = parts->read_max,
		.context = parts->context,
		.landing = parts->landing,
		.trace = log_enabled(LOG_DEBUG),
	};
	return shell_create(p->loop, &options, &p->shell, why);
}

enum err process_open(const struct process_settings *settings, const struct process_parts *parts,
		      struct process **ret_process, struct why *why)
{
	enum err e = start_log(settings, why);
	if (e != ERR_OK)
		return e;
	if (!settings->name || !*settings->name || strlen(settings->name) > MEMBER_NAME_MAX || strchr(settings->name, '/'))
		return why_set(why, ERR_INVALID, "--name wants 1 to %d characters without a slash", MEMBER_NAME_MAX);
	/* Memory holds prompts, KV and digests of keys: none of it belongs in a file that a crash leaves behind. */
	(void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	/* Every client and peer is a descriptor; the soft limit of most systems is 1024. */
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	struct process *p = calloc(1, sizeof(*p));
	if (!p)
		return ERR_NOMEM;
	p->settings = *settings;
	struct timespec wall;
	clock_gettime(CLOCK_REALTIME, &wall);
	p->incarnation = (uint64_t)wall.tv_sec * 1000000000u + (uint64_t)wall.tv_nsec;
	e = loop_create(&p->loop);
	if (e == ERR_OK && parts->with_link)
		e = open_link(p, why);
	if (e == ERR_OK)
		e = open_shell(p, parts, why);
	if (e == ERR_OK)
		e = loop_timer_create(p->loop, drain_check, p, &p->drain_timer);
	for (int i = 0; i < 2 && e == ERR_OK; i++)
		e = loop_signal_create(p->loop, i ? SIGINT : SIGTERM, on_signal, p, &p->signals[i]);
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

struct link *process_link(struct process *p)
{
	return p->link;
}

const struct env *process_env(struct process *p)
{
	return shell_env(p->shell);
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

static void on_state(void *context, bool etcd_up, bool registered)
{
	struct process *p = context;
	(void)etcd_up;
	if (registered && !p->registered)
		log_info("registered in etcd as %s", p->settings.name);
	p->registered = registered;
}

/* "tcp://127.0.0.1:0" becomes what peers dial: the host as advertised and the port really bound. */
static void own_url(const struct process *p, char *ret_url, size_t size)
{
	const char *host = strstr(p->settings.listen, "://");
	host = host ? host + 3 : p->settings.listen;
	const char *colon = strrchr(host, ':');
	int host_length = colon ? (int)(colon - host) : (int)strlen(host);
	if (p->settings.advertise_host)
		snprintf(ret_url, size, "tcp://%s:%u", p->settings.advertise_host, wire_port(shell_wire(p->shell)));
	else
		snprintf(ret_url, size, "tcp://%.*s:%u", host_length, host, wire_port(shell_wire(p->shell)));
}

enum err process_join(struct process *p, const struct process_core *core, const struct member *self, struct why *why)
{
	p->core = *core;
	p->self = *self;
	p->self.node = process_node(p);
	p->self.incarnation = p->incarnation;
	p->self.pid = (uint32_t)getpid();
	snprintf(p->self.name, sizeof(p->self.name), "%s", p->settings.name);
	own_url(p, p->self.url, sizeof(p->self.url));
	shell_attach(p->shell, &p->core.shell);
	struct membership_options options = {
		.endpoints = p->settings.etcd.items,
		.endpoint_count = p->settings.etcd.count,
		.cluster = p->settings.cluster,
		.self = &p->self,
		.context = p,
		.on_member = on_member,
		.on_gone = on_gone,
		.on_state = on_state,
	};
	log_info("%s listens at %s", member_role_text(p->self.role), p->self.url);
	return membership_create(p->loop, &options, &p->membership, why);
}

void process_run(struct process *p)
{
	loop_run(p->loop);
}

void process_close(struct process *p)
{
	if (!p)
		return;
	membership_destroy(p->membership);
	if (p->link)
		link_destroy(p->link);
	shell_destroy(p->shell);
	loop_timer_destroy(p->drain_timer);
	for (int i = 0; i < 2; i++)
		loop_signal_destroy(p->signals[i]);
	if (p->loop)
		loop_destroy(p->loop);
	buf_fini(&p->link_address);
	free(p);
}
