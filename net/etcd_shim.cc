/* The only C++ of Baton: etcd's gRPC calls and streams, as callbacks on the home loop.
 *
 * One completion queue, and one thread that takes finished operations from it and posts each to the loop.
 * Everything else here runs in the home thread, so there is not a lock in this file.  An operation lives until
 * every tag it gave to gRPC has come back; cancelling only drops its callback (DESIGN 10). */
#include <cassert>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "etcd_rpc.grpc.pb.h"

extern "C" {
#include "net/etcd_impl.h"
#include "net/loop.h"
}

namespace rpc = etcdserverpb;

namespace {

enum { ENDPOINT_MAX = 16, PAGE_KEYS = 500, PEM_BYTES_MAX = 1 << 20, PAGE_KEYS_MAX = 100000, TXN_OPS_MAX = 128 };

struct Operation;

/* What gRPC gives back when an operation is done, on its way to the loop. */
struct Tag {
	loop_task task = {};
	Operation *operation = nullptr;
	int which = 0;
	bool ok = false;
};

struct Endpoint {
	std::string url;
	std::tuple<std::unique_ptr<rpc::KV::Stub>, std::unique_ptr<rpc::Watch::Stub>, std::unique_ptr<rpc::Lease::Stub>>
		stubs;

	template <typename Stub> Stub &stub()
	{
		return *std::get<std::unique_ptr<Stub>>(stubs);
	}
};

struct Call;

} // namespace

struct etcd {
	struct loop *loop = nullptr;
	uint64_t call_timeout_ns = 0;
	std::vector<Endpoint> endpoints;
	size_t current = 0; /* endpoint */
	void (*on_state)(struct etcd *etcd, bool up, const char *text, void *arg) = nullptr;
	void *arg = nullptr;
	int state = -1; /* unknown, down, up */
	uint64_t next_call = 1;
	std::map<uint64_t, Call *> calls; /* with a callback to come */
	std::set<Operation *> operations; /* with tags out */
	grpc::CompletionQueue queue;
	std::thread thread;

	void set_state(bool up, const char *text)
	{
		if (state == (up ? 1 : 0))
			return;
		state = up ? 1 : 0;
		if (on_state)
			on_state(this, up, text, arg);
	}

	/* Transport trouble moves everyone to the next endpoint; any answer of a server is a sign of life. */
	void judge(size_t endpoint, enum err e, const char *text)
	{
		bool up = e != ERR_UNAVAILABLE && e != ERR_DEADLINE;
		if (!up && current == endpoint)
			current = (current + 1) % endpoints.size();
		set_state(up, text);
	}
};

namespace {

/* ---- operations: what has tags out ---- */

struct Operation {
	struct etcd *etcd;
	size_t endpoint;
	grpc::Status status;
	std::unique_ptr<grpc::ClientContext> context;
	int tags_out = 0;

	explicit Operation(struct etcd *owner) : etcd(owner), endpoint(owner->current)
	{
		etcd->operations.insert(this);
	}
	virtual ~Operation()
	{
		etcd->operations.erase(this);
	}
	virtual void on_tag(int which, bool ok) = 0;
	virtual void cancel_tasks() = 0;

	void new_context(uint64_t timeout_ns)
	{
		context = std::make_unique<grpc::ClientContext>();
		if (timeout_ns)
			context->set_deadline(std::chrono::system_clock::now() + std::chrono::nanoseconds(timeout_ns));
	}

	Tag *take(Tag &tag)
	{
		tags_out++;
		return &tag;
	}

	void init_tag(Tag &tag, int which)
	{
		tag.operation = this;
		tag.which = which;
		loop_task_init(
			&tag.task,
			[](void *arg) {
				Tag *back = static_cast<Tag *>(arg);
				Operation *operation = back->operation;
				operation->tags_out--;
				operation->on_tag(back->which, back->ok);
			},
			&tag);
	}
};

/* gRPC's own text in front of nothing, the server's text as it is; the endpoint says where. */
std::string status_text(const Operation &operation)
{
	const std::string &url = operation.etcd->endpoints[operation.endpoint].url;
	return url + ": " + operation.status.error_message();
}

bool says(const grpc::Status &status, const char *words)
{
	return status.error_message().find(words) != std::string::npos;
}

enum err status_error(const grpc::Status &status)
{
	switch (status.error_code()) {
	case grpc::StatusCode::OK:
		return ERR_OK;
	case grpc::StatusCode::UNAVAILABLE:
	case grpc::StatusCode::CANCELLED: /* not ours: those have no callback any more */
	case grpc::StatusCode::ABORTED:
		return ERR_UNAVAILABLE;
	case grpc::StatusCode::DEADLINE_EXCEEDED:
		return ERR_DEADLINE;
	case grpc::StatusCode::NOT_FOUND:
		return ERR_NOT_FOUND;
	case grpc::StatusCode::OUT_OF_RANGE:
		return says(status, "compacted") ? ERR_STALE : ERR_INVALID;
	case grpc::StatusCode::RESOURCE_EXHAUSTED:
		if (says(status, "too many requests"))
			return ERR_AGAIN;
		return says(status, "space exceeded") ? ERR_IO : ERR_TOO_LARGE;
	case grpc::StatusCode::INVALID_ARGUMENT:
		return says(status, "too large") ? ERR_TOO_LARGE : ERR_INVALID;
	case grpc::StatusCode::FAILED_PRECONDITION:
		return says(status, "already exists") ? ERR_EXISTS : ERR_INVALID;
	case grpc::StatusCode::ALREADY_EXISTS:
		return ERR_EXISTS;
	case grpc::StatusCode::PERMISSION_DENIED:
	case grpc::StatusCode::UNAUTHENTICATED:
		return ERR_DENIED;
	case grpc::StatusCode::UNIMPLEMENTED:
		return ERR_UNSUPPORTED;
	default:
		return ERR_IO;
	}
}

etcd_kv kv_view(const rpc::KeyValue &kv)
{
	etcd_kv view = {};
	view.key = kv.key().c_str();
	view.key_length = kv.key().size();
	view.value = reinterpret_cast<const uint8_t *>(kv.value().data());
	view.value_length = kv.value().size();
	view.create_revision = kv.create_revision();
	view.mod_revision = kv.mod_revision();
	view.version = kv.version();
	view.lease = kv.lease();
	return view;
}

/* ---- unary calls ---- */

struct Reply {
	etcd_reply reply = {};
	std::vector<etcd_kv> kvs;

	void add(const rpc::RangeResponse &response)
	{
		for (const rpc::KeyValue &kv : response.kvs())
			kvs.push_back(kv_view(kv));
	}
};

void fill(const rpc::PutResponse &, Reply &)
{
}

void fill(const rpc::CompactionResponse &, Reply &)
{
}

void fill(const rpc::LeaseRevokeResponse &, Reply &)
{
}

void fill(const rpc::RangeResponse &response, Reply &reply)
{
	reply.add(response);
	reply.reply.more = response.more();
}

void fill(const rpc::DeleteRangeResponse &response, Reply &reply)
{
	reply.reply.deleted = response.deleted();
}

void fill(const rpc::TxnResponse &response, Reply &reply)
{
	reply.reply.succeeded = response.succeeded();
	for (const rpc::ResponseOp &op : response.responses()) {
		if (op.has_response_range())
			reply.add(op.response_range());
		if (op.has_response_delete_range())
			reply.reply.deleted += op.response_delete_range().deleted();
	}
}

void fill(const rpc::LeaseGrantResponse &response, Reply &reply)
{
	reply.reply.lease = response.id();
	int64_t ttl = response.ttl();
	reply.reply.ttl_s = ttl > 0 && ttl <= UINT32_MAX ? static_cast<uint32_t>(ttl) : 0;
}

struct Call : Operation {
	uint64_t number;
	etcd_done_fn *done;
	void *arg;
	std::string invalid;     /* what is wrong with the arguments; "": nothing */
	size_t tries_left = 0;   /* reads: one per further endpoint */
	bool expect_one = false; /* get: an empty reply is ERR_NOT_FOUND */
	Tag tag;

	Call(struct etcd *owner, etcd_done_fn *done_fn, void *done_arg)
		: Operation(owner), number(owner->next_call++), done(done_fn), arg(done_arg)
	{
		init_tag(tag, 0);
		etcd->calls[number] = this;
	}

	~Call() override
	{
		etcd->calls.erase(number);
	}

	virtual void send() = 0;
	virtual void fill_reply(Reply &reply) = 0;

	void cancel_tasks() override
	{
		loop_task_cancel(etcd->loop, &tag.task);
	}

	/* Exactly once; the call itself may live on until its tag is back. */
	void finish(enum err e, const char *text, const etcd_reply *reply)
	{
		etcd->calls.erase(number);
		if (etcd_done_fn *fn = std::exchange(done, nullptr))
			fn(etcd, e, text, reply, arg);
	}

	void start()
	{
		if (invalid.empty()) {
			send();
		} else { /* a callback never runs inside the call that started it */
			take(tag);
			loop_post(etcd->loop, &tag.task);
		}
	}

	void answer()
	{
		Reply reply;
		fill_reply(reply);
		reply.reply.kvs = reply.kvs.data();
		reply.reply.kv_count = reply.kvs.size();
		if (expect_one && reply.kvs.empty())
			finish(ERR_NOT_FOUND, "no such key", nullptr);
		else
			finish(ERR_OK, "", &reply.reply);
	}

	void on_tag(int, bool) override
	{
		std::unique_ptr<Call> end_of_scope(this);
		if (!done)
			return;
		if (!invalid.empty()) {
			finish(ERR_INVALID, invalid.c_str(), nullptr);
			return;
		}
		enum err e = status_error(status);
		std::string text = status.ok() ? "" : status_text(*this);
		etcd->judge(endpoint, e, text.c_str());
		if (!done) /* on_state cancelled it */
			return;
		if (e == ERR_UNAVAILABLE && tries_left > 0) {
			tries_left--;
			endpoint = etcd->current;
			end_of_scope.release();
			send();
		} else if (e == ERR_OK) {
			answer();
		} else {
			finish(e, text.c_str(), nullptr);
		}
	}
};

template <typename Stub, typename Request, typename Response> struct CallOf : Call {
	using Reader = grpc::ClientAsyncResponseReader<Response>;
	using Method = std::unique_ptr<Reader> (Stub::*)(grpc::ClientContext *, const Request &,
							 grpc::CompletionQueue *);
	Method method;
	Request request;
	Response response;
	std::unique_ptr<Reader> reader;

	CallOf(struct etcd *owner, Method which, etcd_done_fn *done_fn, void *done_arg)
		: Call(owner, done_fn, done_arg), method(which)
	{
	}

	void send() override
	{
		new_context(etcd->call_timeout_ns);
		response.Clear();
		Stub &stub = etcd->endpoints[endpoint].template stub<Stub>();
		reader = (stub.*method)(context.get(), request, &etcd->queue);
		reader->Finish(&response, &status, take(tag));
	}

	void fill_reply(Reply &reply) override
	{
		reply.reply.revision = response.header().revision();
		fill(response, reply);
	}
};

using PutCall = CallOf<rpc::KV::Stub, rpc::PutRequest, rpc::PutResponse>;
using RangeCall = CallOf<rpc::KV::Stub, rpc::RangeRequest, rpc::RangeResponse>;
using DeleteCall = CallOf<rpc::KV::Stub, rpc::DeleteRangeRequest, rpc::DeleteRangeResponse>;
using TxnCall = CallOf<rpc::KV::Stub, rpc::TxnRequest, rpc::TxnResponse>;
using CompactCall = CallOf<rpc::KV::Stub, rpc::CompactionRequest, rpc::CompactionResponse>;
using GrantCall = CallOf<rpc::Lease::Stub, rpc::LeaseGrantRequest, rpc::LeaseGrantResponse>;
using RevokeCall = CallOf<rpc::Lease::Stub, rpc::LeaseRevokeRequest, rpc::LeaseRevokeResponse>;

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

/* ---- streams ---- */

} // namespace

struct etcd_flow : Operation {
	enum { START, READ, WRITE, FINISH };
	Tag start_tag, read_tag, write_tag, finish_tag;
	etcd_flow_end_fn *on_end; /* NULL: closed by its owner */
	void *arg;
	bool broken = false; /* only Finish is left to do */
	bool finishing = false;

	etcd_flow(struct etcd *owner, etcd_flow_end_fn *end_fn, void *end_arg)
		: Operation(owner), on_end(end_fn), arg(end_arg)
	{
		init_tag(start_tag, START);
		init_tag(read_tag, READ);
		init_tag(write_tag, WRITE);
		init_tag(finish_tag, FINISH);
		new_context(0);
	}

	virtual void write() = 0;
	virtual void read() = 0;
	virtual void deliver() = 0;
	virtual void finish() = 0;

	void cancel_tasks() override
	{
		for (Tag *tag : {&start_tag, &read_tag, &write_tag, &finish_tag})
			loop_task_cancel(etcd->loop, &tag->task);
	}

	void close()
	{
		on_end = nullptr;
		context->TryCancel();
		if (tags_out == 0 && !in_callback)
			delete this;
	}

	void end()
	{
		enum err e = status.ok() ? ERR_UNAVAILABLE : status_error(status);
		std::string text = status.ok() ? etcd->endpoints[endpoint].url + ": the server ended the stream"
					       : status_text(*this);
		etcd->judge(endpoint, e, text.c_str());
		if (etcd_flow_end_fn *fn = std::exchange(on_end, nullptr))
			fn(arg, e, text.c_str());
	}

	void step(int which, bool ok)
	{
		if (!on_end) /* closed: nothing but to wait for the tags */
			return;
		if (which == FINISH) {
			end();
			return;
		}
		broken = broken || !ok;
		if (broken) {
			/* The tag that is still out comes back as well, failed. */
			if (tags_out == 0 && !std::exchange(finishing, true))
				finish();
			return;
		}
		if (which == START) {
			write();
			read();
		} else if (which == READ) {
			etcd->judge(endpoint, ERR_OK, "");
			if (on_end)
				deliver();
			if (on_end)
				read();
		}
	}

	void on_tag(int which, bool ok) override
	{
		in_callback = true;
		step(which, ok);
		in_callback = false;
		if (!on_end && tags_out == 0)
			delete this;
	}

private:
	bool in_callback = false;
};

namespace {

template <typename Request, typename Response> struct FlowOf : etcd_flow {
	std::unique_ptr<grpc::ClientAsyncReaderWriter<Request, Response>> stream;
	Request request;
	Response response;
	using etcd_flow::etcd_flow;

	void write() override
	{
		stream->Write(request, take(write_tag));
	}
	void read() override
	{
		stream->Read(&response, take(read_tag));
	}
	void finish() override
	{
		stream->Finish(&status, take(finish_tag));
	}
};

struct WatchFlow : FlowOf<rpc::WatchRequest, rpc::WatchResponse> {
	etcd_watch_message_fn *on_message = nullptr;
	using FlowOf::FlowOf;

	void deliver() override
	{
		std::vector<etcd_event> events;
		for (const rpc::Event &event : response.events()) {
			etcd_event view = {};
			view.kind = event.type() == rpc::Event::PUT ? ETCD_PUT : ETCD_DELETED;
			view.kv = kv_view(event.kv());
			events.push_back(view);
		}
		etcd_watch_message message = {};
		message.created = response.created();
		message.canceled = response.canceled();
		message.partial = response.fragment();
		message.compact_revision = response.compact_revision();
		message.revision = response.header().revision();
		message.cluster = response.header().cluster_id();
		message.cancel_reason = response.cancel_reason().c_str();
		message.events = events.data();
		message.event_count = events.size();
		on_message(arg, &message);
	}
};

struct RenewFlow : FlowOf<rpc::LeaseKeepAliveRequest, rpc::LeaseKeepAliveResponse> {
	etcd_renewed_fn *on_renewed = nullptr;
	bool writing = true; /* the first request goes out by itself */
	using FlowOf::FlowOf;

	void on_tag(int which, bool ok) override
	{
		if (which == WRITE)
			writing = false;
		etcd_flow::on_tag(which, ok);
	}

	void deliver() override
	{
		on_renewed(arg, response.ttl());
	}
};

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
	endpoint.stubs = {rpc::KV::NewStub(channel), rpc::Watch::NewStub(channel), rpc::Lease::NewStub(channel)};
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
	etcd->thread = std::thread(carry, etcd.get());
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

uint64_t etcd_backoff_ns(uint32_t attempt, uint64_t seed)
{
	uint64_t full_ns = 100000000u * (uint64_t{1} << (attempt < 5 ? attempt : 5));
	if (full_ns > 2000000000u)
		full_ns = 2000000000u;
	return full_ns - seed % (full_ns / 2);
}

bool etcd_is_final(enum err e)
{
	return e == ERR_DENIED || e == ERR_INVALID || e == ERR_TOO_LARGE || e == ERR_UNSUPPORTED;
}

} // extern "C"
