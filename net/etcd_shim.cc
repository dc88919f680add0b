/* The only C++ of Baton: etcd's gRPC calls and streams, as callbacks on the home loop.
 *
 * One completion queue, and one thread that takes finished operations from it and posts each to the loop: see
 * etcd_shim_operations.hh.  Here are the channels and the C face.  gRPC's headers are slow to compile, so they
 * are compiled once, in this file. */
#include <cstdio>

#include "net/etcd_shim_operations.hh"

namespace {

enum { ENDPOINT_MAX = 16, PAGE_KEYS = 500, PEM_BYTES_MAX = 1 << 20, PAGE_KEYS_MAX = 100000, TXN_OPS_MAX = 128 };

/* ---- checks and key ranges ---- */

void check_key(Call &call, const char *key, bool may_be_empty)
{
	size_t length = strlen(key);
	if (length > ETCD_KEY_BYTES_MAX)
		call.invalid = "a key of " + std::to_string(length) + " bytes, at most " +
			       std::to_string(ETCD_KEY_BYTES_MAX) + " are allowed";
	else if (length == 0 && !may_be_empty)
		call.invalid = "an empty key";
}

void check_value(Call &call, const char *key, size_t length)
{
	if (length > ETCD_VALUE_BYTES_MAX)
		call.invalid = std::string(key) + ": a value of " + std::to_string(length) + " bytes, at most " +
			       std::to_string(ETCD_VALUE_BYTES_MAX) + " are allowed";
}

/* The first key after all that begin with the prefix; "\0" alone means: to the end. */
std::string prefix_end(std::string prefix)
{
	while (!prefix.empty() && static_cast<unsigned char>(prefix.back()) == 0xff)
		prefix.pop_back();
	if (prefix.empty())
		return std::string(1, '\0');
	prefix.back() = static_cast<char>(static_cast<unsigned char>(prefix.back()) + 1);
	return prefix;
}

template <typename Request> void set_prefix(Request &request, const char *prefix)
{
	request.set_key(*prefix ? std::string(prefix) : std::string(1, '\0'));
	request.set_range_end(prefix_end(prefix));
}

uint64_t start(Call *call)
{
	uint64_t number = call->number;
	call->start();
	return number;
}

/* ---- the channel ---- */

grpc::ChannelArguments channel_arguments(const etcd_options &options)
{
	grpc::ChannelArguments arguments;
	uint32_t reply_bytes = options.reply_bytes_max ? options.reply_bytes_max : 16u << 20;
	arguments.SetMaxReceiveMessageSize(reply_bytes > INT32_MAX ? INT32_MAX : static_cast<int>(reply_bytes));
	/* A stopped etcd keeps its sockets: only pings tell.  It allows one in 5 s. */
	arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 6000);
	arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 2000);
	arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
	arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
	arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2000);
	arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
	/* Ours to decide: which endpoint, whether again, and never through a proxy of the environment. */
	arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
	arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
	arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
	return arguments;
}

enum err read_file(const char *path, std::string &text, struct why *why)
{
	FILE *file = fopen(path, "re");
	if (!file)
		return why_set(why, ERR_IO, "%s: %m", path);
	char chunk[4096];
	for (size_t n; (n = fread(chunk, 1, sizeof(chunk), file)) > 0 && text.size() <= PEM_BYTES_MAX;)
		text.append(chunk, n);
	bool bad = ferror(file) || text.size() > PEM_BYTES_MAX || text.empty();
	fclose(file);
	return bad ? why_set(why, ERR_IO, "%s: expected a PEM file of at most 1 MiB", path) : ERR_OK;
}

enum err tls_credentials(const etcd_options &options, std::shared_ptr<grpc::ChannelCredentials> &ret, struct why *why)
{
	grpc::SslCredentialsOptions pem;
	const std::pair<const char *, std::string *> files[] = {{options.ca_file, &pem.pem_root_certs},
								{options.certificate_file, &pem.pem_cert_chain},
								{options.key_file, &pem.pem_private_key}};
	for (auto &[path, text] : files) {
		enum err e = path ? read_file(path, *text, why) : ERR_OK;
		if (e != ERR_OK)
			return e;
	}
	ret = grpc::SslCredentials(pem);
	return ERR_OK;
}

enum err add_endpoint(struct etcd &etcd, const char *url, const etcd_options &options, struct why *why)
{
	bool tls = strncmp(url, "https://", 8) == 0;
	if (!tls && strncmp(url, "http://", 7) != 0)
		return why_set(why, ERR_INVALID, "etcd endpoint %s: expected http://host:port or https://host:port", url);
	std::string target(url + (tls ? 8 : 7));
	while (!target.empty() && target.back() == '/')
		target.pop_back();
	size_t colon = target.rfind(':');
	if (colon == std::string::npos || colon == 0 || target.find('/') != std::string::npos ||
	    target.find_first_not_of("0123456789", colon + 1) != std::string::npos || colon + 1 == target.size())
		return why_set(why, ERR_INVALID, "etcd endpoint %s: expected host:port after the scheme", url);

	std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
	enum err e = tls ? tls_credentials(options, credentials, why) : ERR_OK;
	if (e != ERR_OK)
		return e;
	auto channel = grpc::CreateCustomChannel("dns:///" + target, credentials, channel_arguments(options));
	Endpoint endpoint;
	endpoint.url = url;
	endpoint.stubs = {rpc::KV::NewStub(channel), rpc::Watch::NewStub(channel), rpc::Lease::NewStub(channel),
			  rpc::Auth::NewStub(channel)};
	etcd.endpoints.push_back(std::move(endpoint));
	return ERR_OK;
}

/* The thread: takes what is done to the loop, until the queue is shut down and empty. */
void carry(struct etcd *etcd)
{
	void *raw;
	bool ok;
	while (etcd->queue.Next(&raw, &ok)) {
		Tag *tag = static_cast<Tag *>(raw);
		(void)etcd->handed_out.load(std::memory_order_acquire);
		tag->ok = ok;
		loop_post(etcd->loop, &tag->task);
	}
}

} // namespace

/* ---- the C face ---- */

extern "C" {

enum err etcd_create(struct loop *loop, const struct etcd_options *options, struct etcd **ret_etcd, struct why *why)
{
	if (options->endpoint_count < 1 || options->endpoint_count > ENDPOINT_MAX)
		return why_set(why, ERR_INVALID, "etcd: %zu endpoints, expected 1 to %d", options->endpoint_count,
			       ENDPOINT_MAX);
	auto etcd = std::make_unique<struct etcd>();
	etcd->loop = loop;
	etcd->call_timeout_ns = options->call_timeout_ns ? options->call_timeout_ns : 3000000000u;
	etcd->on_state = options->on_state;
	etcd->arg = options->arg;
	for (size_t i = 0; i < options->endpoint_count; i++) {
		enum err e = add_endpoint(*etcd, options->endpoints[i], *options, why);
		if (e != ERR_OK)
			return e;
	}
	etcd->user = options->user ? options->user : "";
	etcd->password = options->password ? options->password : "";
	etcd->thread = std::thread(carry, etcd.get());
	if (!etcd->user.empty())
		etcd->authenticate();
	*ret_etcd = etcd.release();
	return ERR_OK;
}

void etcd_destroy(struct etcd *etcd)
{
	if (!etcd)
		return;
	while (!etcd->calls.empty())
		etcd_cancel(etcd, etcd->calls.begin()->first);
	for (Operation *operation : etcd->operations)
		if (operation->context)
			operation->context->TryCancel();
	etcd->queue.Shutdown();
	etcd->thread.join();
	/* Every tag is back, posted or run: nothing of gRPC's points to an operation any more. */
	while (!etcd->operations.empty()) {
		Operation *operation = *etcd->operations.begin();
		operation->cancel_tasks();
		delete operation;
	}
	delete etcd;
}

void etcd_cancel(struct etcd *etcd, uint64_t number)
{
	auto found = etcd->calls.find(number);
	if (found == etcd->calls.end())
		return;
	Call *call = found->second;
	if (call->context)
		call->context->TryCancel();
	call->finish(ERR_CANCELED, "canceled", nullptr);
}

struct loop *etcd_loop(struct etcd *etcd)
{
	return etcd->loop;
}

uint64_t etcd_call_timeout_ns(struct etcd *etcd)
{
	return etcd->call_timeout_ns;
}

uint64_t etcd_put(struct etcd *etcd, const char *key, const void *value, size_t length, int64_t lease,
		  etcd_done_fn *done, void *arg)
{
	auto *call = new PutCall(etcd, &rpc::KV::Stub::AsyncPut, done, arg);
	check_key(*call, key, false);
	check_value(*call, key, length);
	if (call->invalid.empty()) {
		call->request.set_key(key);
		call->request.set_value(value, length);
		call->request.set_lease(lease);
	}
	return start(call);
}

uint64_t etcd_get(struct etcd *etcd, const char *key, etcd_done_fn *done, void *arg)
{
	auto *call = new RangeCall(etcd, &rpc::KV::Stub::AsyncRange, done, arg);
	check_key(*call, key, false);
	call->request.set_key(key);
	call->expect_one = true;
	call->tries_left = etcd->endpoints.size() - 1;
	return start(call);
}

uint64_t etcd_range(struct etcd *etcd, const struct etcd_range *range, etcd_done_fn *done, void *arg)
{
	auto *call = new RangeCall(etcd, &rpc::KV::Stub::AsyncRange, done, arg);
	check_key(*call, range->prefix, true);
	if (range->after && strlen(range->after) > ETCD_KEY_BYTES_MAX)
		check_key(*call, range->after, true);
	if (range->limit > PAGE_KEYS_MAX)
		call->invalid = "a page of more than " + std::to_string(PAGE_KEYS_MAX) + " keys";
	set_prefix(call->request, range->prefix);
	if (range->after) /* the first key after it */
		call->request.set_key(std::string(range->after) + '\0');
	call->request.set_limit(range->limit ? range->limit : uint32_t{PAGE_KEYS});
	call->request.set_revision(range->revision);
	call->request.set_keys_only(range->keys_only);
	call->tries_left = etcd->endpoints.size() - 1;
	return start(call);
}

uint64_t etcd_delete(struct etcd *etcd, const char *key, etcd_done_fn *done, void *arg)
{
	auto *call = new DeleteCall(etcd, &rpc::KV::Stub::AsyncDeleteRange, done, arg);
	check_key(*call, key, false);
	call->request.set_key(key);
	return start(call);
}

uint64_t etcd_delete_prefix(struct etcd *etcd, const char *prefix, etcd_done_fn *done, void *arg)
{
	auto *call = new DeleteCall(etcd, &rpc::KV::Stub::AsyncDeleteRange, done, arg);
	check_key(*call, prefix, false); /* nobody means to empty the whole store */
	set_prefix(call->request, prefix);
	return start(call);
}

static void add_compare(TxnCall &call, const struct etcd_compare &from)
{
	static const rpc::Compare::CompareResult results[] = {rpc::Compare::EQUAL, rpc::Compare::NOT_EQUAL,
							      rpc::Compare::GREATER, rpc::Compare::LESS};
	check_key(call, from.key, false);
	rpc::Compare *to = call.request.add_compare();
	to->set_key(from.key);
	to->set_result(results[from.relation]);
	switch (from.target) {
	case ETCD_CREATE_REVISION:
		to->set_target(rpc::Compare::CREATE);
		to->set_create_revision(from.number);
		break;
	case ETCD_MOD_REVISION:
		to->set_target(rpc::Compare::MOD);
		to->set_mod_revision(from.number);
		break;
	case ETCD_VERSION:
		to->set_target(rpc::Compare::VERSION);
		to->set_version(from.number);
		break;
	case ETCD_VALUE:
		check_value(call, from.key, from.value_length);
		to->set_target(rpc::Compare::VALUE);
		to->set_value(from.value, from.value_length);
		break;
	}
}

static void add_op(TxnCall &call, rpc::RequestOp *to, const struct etcd_op &from)
{
	check_key(call, from.key, from.prefix && from.kind == ETCD_OP_GET);
	switch (from.kind) {
	case ETCD_OP_PUT:
		check_value(call, from.key, from.value_length);
		to->mutable_request_put()->set_key(from.key);
		to->mutable_request_put()->set_value(from.value, from.value_length);
		to->mutable_request_put()->set_lease(from.lease);
		break;
	case ETCD_OP_GET:
		to->mutable_request_range()->set_key(from.key);
		if (from.prefix)
			set_prefix(*to->mutable_request_range(), from.key);
		break;
	case ETCD_OP_DELETE:
		to->mutable_request_delete_range()->set_key(from.key);
		if (from.prefix)
			set_prefix(*to->mutable_request_delete_range(), from.key);
		break;
	}
}

uint64_t etcd_txn(struct etcd *etcd, const struct etcd_txn *txn, etcd_done_fn *done, void *arg)
{
	auto *call = new TxnCall(etcd, &rpc::KV::Stub::AsyncTxn, done, arg);
	if (txn->compare_count > TXN_OPS_MAX || txn->then_count > TXN_OPS_MAX || txn->else_count > TXN_OPS_MAX) {
		call->invalid = "a transaction of more than " + std::to_string(TXN_OPS_MAX) + " operations";
		return start(call);
	}
	for (size_t i = 0; i < txn->compare_count; i++)
		add_compare(*call, txn->compares[i]);
	for (size_t i = 0; i < txn->then_count; i++)
		add_op(*call, call->request.add_success(), txn->then_ops[i]);
	for (size_t i = 0; i < txn->else_count; i++)
		add_op(*call, call->request.add_failure(), txn->else_ops[i]);
	return start(call);
}

uint64_t etcd_lease_grant(struct etcd *etcd, uint32_t ttl_s, etcd_done_fn *done, void *arg)
{
	auto *call = new GrantCall(etcd, &rpc::Lease::Stub::AsyncLeaseGrant, done, arg);
	call->request.set_ttl(ttl_s);
	return start(call);
}

uint64_t etcd_lease_revoke(struct etcd *etcd, int64_t lease, etcd_done_fn *done, void *arg)
{
	auto *call = new RevokeCall(etcd, &rpc::Lease::Stub::AsyncLeaseRevoke, done, arg);
	call->request.set_id(lease);
	return start(call);
}

uint64_t etcd_compact(struct etcd *etcd, int64_t revision, etcd_done_fn *done, void *arg)
{
	auto *call = new CompactCall(etcd, &rpc::KV::Stub::AsyncCompact, done, arg);
	call->request.set_revision(revision);
	return start(call);
}

struct etcd_flow *etcd_watch_flow_open(struct etcd *etcd, const char *prefix, int64_t start_revision,
				       etcd_watch_message_fn *on_message, etcd_flow_end_fn *on_end, void *arg)
{
	auto *flow = new WatchFlow(etcd, on_end, arg);
	flow->on_message = on_message;
	rpc::WatchCreateRequest *create = flow->request.mutable_create_request();
	set_prefix(*create, prefix);
	create->set_start_revision(start_revision);
	create->set_fragment(true);
	/* A member that lost its leader ends the stream instead of falling silent. */
	flow->context->AddMetadata("hasleader", "true");
	flow->stream = etcd->endpoints[flow->endpoint].stub<rpc::Watch::Stub>().PrepareAsyncWatch(flow->context.get(),
												    &etcd->queue);
	flow->stream->StartCall(flow->take(flow->start_tag));
	return flow;
}

struct etcd_flow *etcd_renew_flow_open(struct etcd *etcd, int64_t lease, etcd_renewed_fn *on_renewed,
				       etcd_flow_end_fn *on_end, void *arg)
{
	auto *flow = new RenewFlow(etcd, on_end, arg);
	flow->on_renewed = on_renewed;
	flow->request.set_id(lease);
	flow->stream = etcd->endpoints[flow->endpoint].stub<rpc::Lease::Stub>().PrepareAsyncLeaseKeepAlive(
		flow->context.get(), &etcd->queue);
	flow->stream->StartCall(flow->take(flow->start_tag));
	return flow;
}

void etcd_renew_flow_ask(struct etcd_flow *flow)
{
	auto *renew = static_cast<RenewFlow *>(flow);
	if (renew->writing || renew->broken)
		return;
	renew->writing = true;
	renew->write();
}

void etcd_flow_close(struct etcd_flow *flow)
{
	if (flow)
		flow->close();
}

void etcd_flow_give_up(struct etcd_flow *flow, const char *text)
{
	struct etcd *etcd = flow->etcd;
	size_t endpoint = flow->endpoint;
	flow->close();
	etcd->judge(endpoint, ERR_DEADLINE, text);
}

} // extern "C"
