/* NNG: what it refuses at once, and what it reports later. */
#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>

#include "fail_impl.h"

#define NNG(name, parameters, arguments) WRAP(int, name, parameters, arguments, FAIL_STREAM, ENOMEM, NNG_ENOMEM)

NNG(nng_aio_alloc, (nng_aio **aio, void (*fn)(void *), void *arg), (aio, fn, arg))
NNG(nng_stream_dialer_alloc, (nng_stream_dialer **dialer, const char *url), (dialer, url))
NNG(nng_stream_listener_alloc, (nng_stream_listener **listener, const char *url), (listener, url))
NNG(nng_stream_listener_listen, (nng_stream_listener *listener), (listener))
NNG(nng_stream_get_addr, (nng_stream *stream, const char *name, nng_sockaddr *address), (stream, name, address))
NNG(nng_stream_listener_get_int, (nng_stream_listener *listener, const char *name, int *value), (listener, name, value))
NNG(nng_stream_dialer_set_bool, (nng_stream_dialer *dialer, const char *name, bool value), (dialer, name, value))
NNG(nng_stream_listener_set_bool, (nng_stream_listener *listener, const char *name, bool value), (listener, name, value))
NNG(nng_stream_listener_set_int, (nng_stream_listener *listener, const char *name, int value), (listener, name, value))

/* The operation ends with an error without having begun. */
static bool ends_badly(nng_aio *aio, void *caller, int error)
{
	if (!fail_now(FAIL_STREAM, caller))
		return false;
	if (nng_aio_begin(aio))
		nng_aio_finish(aio, error);
	return true;
}

#define NNG_LATER(name, first, error)                                \
	void __real_##name(first, nng_aio *aio);                     \
	void __wrap_##name(first, nng_aio *aio);                     \
	void __wrap_##name(first, nng_aio *aio)                      \
	{                                                            \
		if (!ends_badly(aio, CALLER, error))                 \
			__real_##name(of, aio);                      \
	}

NNG_LATER(nng_stream_send, nng_stream *of, NNG_ECONNRESET)
NNG_LATER(nng_stream_recv, nng_stream *of, NNG_ECONNRESET)
NNG_LATER(nng_stream_dialer_dial, nng_stream_dialer *of, NNG_ECONNREFUSED)
NNG_LATER(nng_stream_listener_accept, nng_stream_listener *of, NNG_ENOFILES)
