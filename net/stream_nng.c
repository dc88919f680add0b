/* NNG's dialers and listeners with our options applied: certificates, no delay, who may open the socket. */
#include <arpa/inet.h>
#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "net/stream_impl.h"

enum err stream_error(int nng_error)
{
	switch (nng_error) {
	case 0:
		return ERR_OK;
	case NNG_ENOMEM:
		return ERR_NOMEM;
	case NNG_ETIMEDOUT:
		return ERR_DEADLINE;
	case NNG_EADDRINUSE:
		return ERR_BUSY;
	case NNG_EADDRINVAL:
	case NNG_EINVAL:
		return ERR_INVALID;
	case NNG_ENOTSUP:
		return ERR_UNSUPPORTED;
	case NNG_EPEERAUTH:
	case NNG_ECRYPTO:
		return ERR_DENIED;
	case NNG_EPROTO:
		return ERR_PROTOCOL;
	case NNG_EPERM:
	case NNG_ENOFILES:
	case NNG_ENOSPC:
	case NNG_EINTERNAL:
		return ERR_IO;
	default:
		return ERR_PEER_GONE;
	}
}

/* ---- certificates ---- */

static enum err read_pem(const char *path, struct buf *ret_text, struct why *why)
{
	if (!path)
		return why_set(why, ERR_INVALID, "tls: a CA, a certificate and a key file are needed");
	FILE *file = fopen(path, "re");
	if (!file)
		return why_set(why, ERR_IO, "%s: %m", path);
	ret_text->limit = 1 << 20;
	char chunk[4096];
	enum err e = ERR_OK;
	for (size_t n; e == ERR_OK && (n = fread(chunk, 1, sizeof(chunk), file)) > 0;)
		e = buf_append(ret_text, chunk, n);
	if (e == ERR_OK && ferror(file))
		e = ERR_IO;
	fclose(file);
	if (e != ERR_OK)
		return why_set(why, e, "%s: cannot read the PEM file, at most 1 MiB: %s", path, err_text(e));
	if (ret_text->length == 0)
		return why_set(why, ERR_INVALID, "%s: empty, expected PEM", path);
	return ERR_OK;
}

static enum err config_fill(nng_tls_config *config, const struct stream_tls *tls, const char *server_name,
			    struct buf pem[3], struct why *why)
{
	const char *const paths[3] = {tls->ca_file, tls->certificate_file, tls->key_file};
	for (int i = 0; i < 3; i++) {
		enum err e = read_pem(paths[i], &pem[i], why);
		if (e != ERR_OK)
			return e;
	}
	int result = nng_tls_config_ca_chain(config, pem[0].data, NULL);
	if (result != 0)
		return why_set(why, ERR_IO, "%s: %s", tls->ca_file, nng_strerror(result));
	result = nng_tls_config_own_cert(config, pem[1].data, pem[2].data, NULL);
	if (result != 0)
		return why_set(why, ERR_IO, "%s, %s: %s", tls->certificate_file, tls->key_file,
			       nng_strerror(result));
	if (server_name)
		result = nng_tls_config_server_name(config, server_name);
	if (result == 0)
		result = nng_tls_config_version(config, NNG_TLS_1_2, NNG_TLS_1_3);
	if (result == NNG_ENOTSUP) /* this mbedTLS has no 1.3 */
		result = nng_tls_config_version(config, NNG_TLS_1_2, NNG_TLS_1_2);
	if (result == 0)
		result = nng_tls_config_auth_mode(config, NNG_TLS_AUTH_MODE_REQUIRED);
	return result == 0 ? ERR_OK : why_set(why, ERR_IO, "tls: %s", nng_strerror(result));
}

/* server_name: NULL on the listening side. */
static enum err config_make(const struct stream_tls *tls, const char *server_name, nng_tls_config **ret_config,
			    struct why *why)
{
	nng_tls_config *config;
	int result = nng_tls_config_alloc(&config, server_name ? NNG_TLS_MODE_CLIENT : NNG_TLS_MODE_SERVER);
	if (result != 0)
		return why_set(why, stream_error(result), "tls: %s", nng_strerror(result));
	struct buf pem[3] = {0};
	enum err e = config_fill(config, tls, server_name, pem, why);
	for (int i = 0; i < 3; i++)
		buf_fini(&pem[i]);
	if (e != ERR_OK) {
		nng_tls_config_free(config);
		return e;
	}
	*ret_config = config;
	return ERR_OK;
}

/* ---- dialers and listeners ---- */

/* NNG knows more schemes (ws, inproc …) than were thought through here. */
static enum err check_url(const char *url, const struct stream_options *options, bool *ret_tls,
			     struct why *why)
{
	bool tls = strncmp(url, "tls+tcp://", 10) == 0;
	if (!tls && strncmp(url, "tcp://", 6) != 0 && strncmp(url, "ipc://", 6) != 0)
		return why_set(why, ERR_UNSUPPORTED, "%s: expected tcp://, tls+tcp:// or ipc://", url);
	bool given = options && options->tls;
	if (tls && !given)
		return why_set(why, ERR_INVALID, "%s: needs certificates", url);
	if (!tls && given)
		return why_set(why, ERR_INVALID, "%s: certificates given, but it is not tls", url);
	/* NNG takes any number for a port, modulo 65536. */
	const char *port = strrchr(url, ':');
	if (strncmp(url, "ipc", 3) != 0 && (strspn(port + 1, "0123456789") != strlen(port + 1) || strlen(port) < 2 ||
					    strtoul(port + 1, NULL, 10) > 65535))
		return why_set(why, ERR_INVALID, "%s: expected a port of 0 to 65535 at the end", url);
	*ret_tls = tls;
	return ERR_OK;
}

/* The host of the URL is the name we expect, unless the options say another. */
static enum err dialer_tls(nng_stream_dialer *dialer, const char *url, const struct stream_tls *tls,
			   struct why *why)
{
	nng_url *parsed;
	int result = nng_url_parse(&parsed, url);
	if (result != 0)
		return why_set(why, ERR_INVALID, "%s: %s", url, nng_strerror(result));
	nng_tls_config *config;
	enum err e = config_make(tls, tls->server_name ? tls->server_name : parsed->u_hostname, &config, why);
	nng_url_free(parsed);
	if (e != ERR_OK)
		return e;
	result = nng_stream_dialer_set_ptr(dialer, NNG_OPT_TLS_CONFIG, config);
	nng_tls_config_free(config);
	return result == 0 ? ERR_OK : why_set(why, ERR_IO, "%s: %s", url, nng_strerror(result));
}

enum err stream_dialer_make(const char *url, const struct stream_options *options,
			    nng_stream_dialer **ret_dialer, struct why *why)
{
	bool tls;
	enum err e = check_url(url, options, &tls, why);
	if (e != ERR_OK)
		return e;
	nng_stream_dialer *dialer;
	int result = nng_stream_dialer_alloc(&dialer, url);
	if (result != 0)
		return why_set(why, stream_error(result) == ERR_NOMEM ? ERR_NOMEM : ERR_INVALID, "%s: %s", url,
			       nng_strerror(result));
	if (tls)
		e = dialer_tls(dialer, url, options->tls, why);
	if (e != ERR_OK) {
		nng_stream_dialer_free(dialer);
		return e;
	}
	/* ipc has no such options and says so; that is fine. */
	nng_stream_dialer_set_bool(dialer, NNG_OPT_TCP_NODELAY, true);
	nng_stream_dialer_set_bool(dialer, NNG_OPT_TCP_KEEPALIVE, true);
	*ret_dialer = dialer;
	return ERR_OK;
}

enum err stream_listener_make(const char *url, const struct stream_options *options,
			      nng_stream_listener **ret_listener, struct why *why)
{
	bool tls;
	enum err e = check_url(url, options, &tls, why);
	if (e != ERR_OK)
		return e;
	nng_stream_listener *listener;
	int result = nng_stream_listener_alloc(&listener, url);
	if (result != 0)
		return why_set(why, stream_error(result) == ERR_NOMEM ? ERR_NOMEM : ERR_INVALID, "%s: %s", url,
			       nng_strerror(result));
	nng_tls_config *config = NULL;
	if (tls)
		e = config_make(options->tls, NULL, &config, why);
	if (e != ERR_OK)
		goto free_listener;
	if (config)
		result = nng_stream_listener_set_ptr(listener, NNG_OPT_TLS_CONFIG, config);
	nng_stream_listener_set_bool(listener, NNG_OPT_TCP_NODELAY, true);
	nng_stream_listener_set_bool(listener, NNG_OPT_TCP_KEEPALIVE, true);
	nng_stream_listener_set_int(listener, NNG_OPT_IPC_PERMISSIONS, 0600);
	if (result == 0)
		result = nng_stream_listener_listen(listener);
	if (config)
		nng_tls_config_free(config);
	if (result != 0) {
		e = why_set(why, stream_error(result), "%s: %s", url, nng_strerror(result));
		goto free_listener;
	}
	*ret_listener = listener;
	return ERR_OK;

free_listener:
	nng_stream_listener_free(listener);
	return e;
}

/* ---- addresses ---- */

void stream_peer_text(struct stream *stream)
{
	nng_sockaddr address;
	if (nng_stream_get_addr(stream->nng, NNG_OPT_REMADDR, &address) != 0)
		return;
	char host[INET6_ADDRSTRLEN] = "";
	if (address.s_family == NNG_AF_INET) {
		inet_ntop(AF_INET, &address.s_in.sa_addr, host, sizeof(host));
		snprintf(stream->peer, sizeof(stream->peer), "%s:%u", host, ntohs(address.s_in.sa_port));
	} else if (address.s_family == NNG_AF_INET6) {
		inet_ntop(AF_INET6, address.s_in6.sa_addr, host, sizeof(host));
		snprintf(stream->peer, sizeof(stream->peer), "[%s]:%u", host, ntohs(address.s_in6.sa_port));
	}
}
