/* etcd_shim_operations - what has a request of gRPC's under way: unary calls and streams.  Only etcd_shim.cc.
 *
 * Everything runs in the home thread, so there is not a lock in here.  An operation lives until every tag it gave
 * to gRPC has come back; cancelling only drops its callback (DESIGN 10). */
#ifndef NET_ETCD_SHIM_OPERATIONS_HH
#define NET_ETCD_SHIM_OPERATIONS_HH
#include <atomic>
#include <chrono>
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

namespace etcd_shim {

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
	std::tuple<std::unique_ptr<rpc::KV::Stub>, std::unique_ptr<rpc::Watch::Stub>, std::unique_ptr<rpc::Lease::Stub>,
		   std::unique_ptr<rpc::Auth::Stub>>
		stubs;

	template <typename Stub> Stub &stub()
	{
		return *std::get<std::unique_ptr<Stub>>(stubs);
	}
};

struct Call;

} // namespace etcd_shim

using namespace etcd_shim;

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
	std::string user, password, token, auth_error;
	uint64_t token_ns = 0, auth_asked_ns = 0; /* when it was got, and last asked for; 0: never */
	std::atomic<uint64_t> handed_out{0}; /* tags: orders our writes before the thread's, whatever gRPC does */
	std::thread thread;

	void set_state(bool up, const char *text)
	{
		if (state == (up ? 1 : 0))
			return;
		state = up ? 1 : 0;
		if (on_state)
			on_state(this, up, text, arg);
	}

	/* Asks for a token, at most once a second: etcd hashes passwords slowly, on purpose. */
	void authenticate();

	/* What a server says of a token that is missing or over is no final word: another one is asked for. */
	bool wants_token(const std::string &text)
	{
		static const char *const words[] = {"invalid auth token", "user name is empty", "auth store is old"};
		if (user.empty())
			return false;
		for (const char *part : words)
			if (text.find(part) != std::string::npos) {
				authenticate();
				return true;
			}
		return false;
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

namespace etcd_shim {

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
		if (!etcd->token.empty())
			context->AddMetadata("token", etcd->token);
	}

	Tag *take(Tag &tag)
	{
		tags_out++;
		etcd->handed_out.fetch_add(1, std::memory_order_release);
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
inline std::string status_text(const Operation &operation)
{
	const std::string &url = operation.etcd->endpoints[operation.endpoint].url;
	return url + ": " + operation.status.error_message();
}

inline bool says(const grpc::Status &status, const char *words)
{
	return status.error_message().find(words) != std::string::npos;
}

inline enum err status_error(const grpc::Status &status)
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

inline etcd_kv kv_view(const rpc::KeyValue &kv)
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

inline void fill(const rpc::PutResponse &, Reply &)
{
}

inline void fill(const rpc::CompactionResponse &, Reply &)
{
}

inline void fill(const rpc::LeaseRevokeResponse &, Reply &)
{
}

inline void fill(const rpc::RangeResponse &response, Reply &reply)
{
	reply.add(response);
	reply.reply.more = response.more();
}

inline void fill(const rpc::DeleteRangeResponse &response, Reply &reply)
{
	reply.reply.deleted = response.deleted();
}

inline void fill(const rpc::TxnResponse &response, Reply &reply)
{
	reply.reply.succeeded = response.succeeded();
	for (const rpc::ResponseOp &op : response.responses()) {
		if (op.has_response_range())
			reply.add(op.response_range());
		if (op.has_response_delete_range())
			reply.reply.deleted += op.response_delete_range().deleted();
	}
}

inline void fill(const rpc::LeaseGrantResponse &response, Reply &reply)
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
		if (etcd->wants_token(text)) {
			e = ERR_AGAIN;
			text += etcd->auth_error;
		}
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
using AuthCallBase = CallOf<rpc::Auth::Stub, rpc::AuthenticateRequest, rpc::AuthenticateResponse>;
using RevokeCall = CallOf<rpc::Lease::Stub, rpc::LeaseRevokeRequest, rpc::LeaseRevokeResponse>;

inline void fill(const rpc::AuthenticateResponse &, Reply &)
{
}

struct AuthCall : AuthCallBase {
	using AuthCallBase::AuthCallBase;

	void fill_reply(Reply &) override
	{
		etcd->token = response.token();
		etcd->token_ns = loop_now_ns(etcd->loop);
		etcd->auth_error.clear();
	}

	static void done_fn(struct etcd *etcd, enum err e, const char *text, const etcd_reply *, void *)
	{
		if (e != ERR_OK && e != ERR_CANCELED)
			etcd->auth_error = std::string(" (user ") + etcd->user + ": " + text + ")";
	}
};

/* ---- streams ---- */

} // namespace etcd_shim

inline void etcd::authenticate()
{
	uint64_t now_ns = loop_now_ns(loop);
	if (auth_asked_ns && now_ns < auth_asked_ns + 1000000000u)
		return;
	auth_asked_ns = now_ns;
	token.clear(); /* one that is over would be refused with the very question for another */
	auto *call = new AuthCall(this, &rpc::Auth::Stub::AsyncAuthenticate, AuthCall::done_fn, nullptr);
	call->request.set_name(user);
	call->request.set_password(password);
	call->start();
}

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
		if (etcd->wants_token(text))
			e = ERR_AGAIN;
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

namespace etcd_shim {

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

	/* A watch with a token that is over is denied like one without permission: only with a fresh token is it the truth. */
	bool is_stale_token()
	{
		uint64_t now_ns = loop_now_ns(etcd->loop);
		return response.canceled() && !etcd->user.empty() &&
		       response.cancel_reason().find("denied") != std::string::npos &&
		       (etcd->token.empty() || now_ns > etcd->token_ns + 5000000000u);
	}

	void deliver() override
	{
		if (is_stale_token()) {
			etcd->authenticate();
			context->TryCancel();
			if (etcd_flow_end_fn *fn = std::exchange(on_end, nullptr))
				fn(arg, ERR_AGAIN, response.cancel_reason().c_str());
			return;
		}
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

} // namespace etcd_shim
#endif
