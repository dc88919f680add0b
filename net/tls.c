#include "net/tls.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "base/log.h"
#include "base/secret.h"
#include "net/tls_impl.h"

enum { FILES = 3, FILE_BYTES_MAX = 1 << 20, LOG_LINES_MAX = 10, CHAIN_MAX = 4 };

/* What tells one version of the files from another. */
struct stamp {
	dev_t device;
	ino_t inode;
	off_t bytes;
	struct timespec changed;
};

struct tls {
	char *paths[FILES]; /* CA, certificate, key; the CA's is NULL where it is not mutual */
	char *cluster;      /* NULL: server only */
	struct identity self;
	BIO_METHOD *socket;
	pthread_mutex_t lock; /* guards what follows */
	SSL_CTX *context;
	struct stamp stamps[FILES];
	time_t log_second;
	int log_lines;
	uint64_t refused[REFUSAL_COUNT]; /* atomic */
};

/* ---- the socket: as OpenSSL's own, but a broken connection raises no SIGPIPE ---- */

static int bio_fd(BIO *bio)
{
	return (int)(intptr_t)BIO_get_data(bio);
}

static int bio_write(BIO *bio, const char *data, int length)
{
	ssize_t n = send(bio_fd(bio), data, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT);
	BIO_clear_retry_flags(bio);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		BIO_set_retry_write(bio);
	return (int)n;
}

static int bio_read(BIO *bio, char *data, int length)
{
	ssize_t n = recv(bio_fd(bio), data, (size_t)length, MSG_DONTWAIT);
	BIO_clear_retry_flags(bio);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		BIO_set_retry_read(bio);
	return (int)n;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
	return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DUP;
}

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

static BIO_METHOD *socket_method(void)
{
	BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "baton socket");
	if (!method)
		return NULL;
	BIO_meth_set_write(method, bio_write);
	BIO_meth_set_read(method, bio_read);
	BIO_meth_set_ctrl(method, bio_control);
	BIO_meth_set_create(method, bio_create);
	return method;
}

/* ---- judging a peer's certificate ---- */

static int refuse(struct tls_judgement *judgement, enum refusal refusal, const char *text)
{
	if (!judgement->is_refused) {
		judgement->is_refused = true;
		judgement->refusal = refusal;
		snprintf(judgement->text, sizeof(judgement->text), "%.190s", text);
	}
	return 0;
}

/* Exactly one URI, as SPIFFE asks. */
static enum err certificate_identity(X509 *certificate, struct why *why, struct identity *ret_identity)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	const ASN1_IA5STRING *uri = NULL;
	int count = 0;
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		if (name->type != GEN_URI)
			continue;
		uri = name->d.uniformResourceIdentifier;
		count++;
	}
	enum err e = count == 1 ? identity_parse((const char *)ASN1_STRING_get0_data(uri), (size_t)ASN1_STRING_length(uri),
						 why, ret_identity)
				: why_set(why, ERR_INVALID, "%d URIs among its alternative names, expected one", count);
	GENERAL_NAMES_free(names);
	return e;
}

static bool is_role_right(const struct tls_judgement *judgement)
{
	const struct identity *self = &judgement->tls->self, *peer = &judgement->identity;
	if (judgement->purpose == TLS_BULK)
		return identity_may_read(self, peer);
	return judgement->server ? identity_may_dial(peer, self) : identity_may_dial(self, peer);
}

static int judge_identity(struct tls_judgement *judgement, X509 *certificate)
{
	struct why why;
	char text[256];
	struct identity *peer = &judgement->identity;
	if (certificate_identity(certificate, &why, peer) != ERR_OK)
		return refuse(judgement, REFUSAL_IDENTITY, why.text);
	if (strcmp(peer->cluster, judgement->tls->cluster) != 0) {
		snprintf(text, sizeof(text), "its certificate is of cluster \"%s\", ours is \"%s\"", peer->cluster,
			 judgement->tls->cluster);
		return refuse(judgement, REFUSAL_CLUSTER, text);
	}
	if (judgement->expect_node && identity_node(peer) != judgement->expect_node) {
		snprintf(text, sizeof(text), "its certificate names %s \"%s\", another was dialled", peer->role, peer->name);
		return refuse(judgement, REFUSAL_NAME, text);
	}
	if (!is_role_right(judgement)) {
		snprintf(text, sizeof(text), "its certificate names %s \"%s\", which has no business with %s here", peer->role,
			 peer->name, judgement->tls->self.role);
		return refuse(judgement, REFUSAL_ROLE, text);
	}
	judgement->is_identified = true;
	return 1;
}

static int on_verify(int good, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_judgement *judgement = SSL_get_app_data(ssl);
	int error = X509_STORE_CTX_get_error(store);
	if (good && X509_STORE_CTX_get_error_depth(store) > 0)
		return 1;
	if (good) {
		good = judge_identity(judgement, X509_STORE_CTX_get_current_cert(store));
		if (!good)
			X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
		return good;
	}
	enum refusal refusal = error == X509_V_ERR_CERT_HAS_EXPIRED ? REFUSAL_EXPIRED
			       : error == X509_V_ERR_CERT_NOT_YET_VALID ? REFUSAL_NOT_YET_VALID : REFUSAL_CA;
	return refuse(judgement, refusal, X509_verify_cert_error_string(error));
}

static enum refusal explain_reason(int reason)
{
	switch (reason) {
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
		return REFUSAL_NO_CERTIFICATE;
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_VERSION_TOO_LOW:
		return REFUSAL_VERSION;
	case SSL_R_HTTP_REQUEST:
	case SSL_R_HTTPS_PROXY_REQUEST:
	case SSL_R_WRONG_VERSION_NUMBER:
	case SSL_R_PACKET_LENGTH_TOO_LONG:
		return REFUSAL_PLAINTEXT;
	default:
		/* Alerts of the peer's stand above 1000 in OpenSSL's reasons. */
		return reason > SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256 ? REFUSAL_BY_PEER
											    : REFUSAL_HANDSHAKE;
	}
}

void tls_explain(struct tls_judgement *judgement, const SSL *ssl, int ssl_error)
{
	unsigned long code = ERR_peek_error();
	if (judgement->is_refused) {
		ERR_clear_error();
		return;
	}
	const char *text = code ? ERR_reason_error_string(code) : NULL;
	long result = SSL_get_verify_result(ssl);
	if (result != X509_V_OK) {
		refuse(judgement, REFUSAL_CA, X509_verify_cert_error_string(result));
		ERR_clear_error();
		return;
	}
	bool ended = !code || ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
	if (ssl_error == SSL_ERROR_SYSCALL || ssl_error == SSL_ERROR_ZERO_RETURN || ended)
		refuse(judgement, REFUSAL_ABANDONED, "it hung up during the handshake");
	else
		refuse(judgement, explain_reason(ERR_GET_REASON(code)), text ? text : "TLS failed");
	ERR_clear_error();
}

/* ---- the files ---- */

static enum err look(const char *path, struct stamp *ret_stamp, mode_t *ret_mode, struct why *why)
{
	struct stat status;
	if (stat(path, &status) != 0)
		return why_set(why, ERR_IO, "%s: %m", path);
	if (!S_ISREG(status.st_mode) || status.st_size == 0 || status.st_size > FILE_BYTES_MAX)
		return why_set(why, ERR_INVALID, "%s: expected a PEM file of 1 byte to 1 MiB", path);
	*ret_stamp = (struct stamp){status.st_dev, status.st_ino, status.st_size, status.st_mtim};
	*ret_mode = status.st_mode;
	return ERR_OK;
}

static enum err look_at_all(const struct tls *tls, struct stamp *ret_stamps, struct why *why)
{
	enum err e = ERR_OK;
	mode_t mode = 0;
	memset(ret_stamps, 0, FILES * sizeof(*ret_stamps)); /* compared as bytes */
	for (int i = 0; i < FILES && e == ERR_OK; i++)
		if (tls->paths[i])
			e = look(tls->paths[i], &ret_stamps[i], &mode, why);
	return e;
}

/* A key under a passphrase is refused: nobody is there to be asked. */
static int no_passphrase(char *buffer, int size, int writing, void *arg)
{
	return -1;
}

static enum err file_error(const char *path, struct why *why)
{
	const char *reason = ERR_reason_error_string(ERR_peek_error());
	enum err e = why_set(why, ERR_IO, "%s: no usable PEM: %s", path, reason ? reason : "nothing in it");
	ERR_clear_error();
	return e;
}

static enum err load(const struct tls *tls, SSL_CTX *context, struct why *why)
{
	ERR_clear_error();
	if (tls->paths[0] && SSL_CTX_load_verify_file(context, tls->paths[0]) != 1)
		return file_error(tls->paths[0], why);
	if (!tls->paths[1])
		return ERR_OK;
	if (SSL_CTX_use_certificate_chain_file(context, tls->paths[1]) != 1)
		return file_error(tls->paths[1], why);
	if (SSL_CTX_use_PrivateKey_file(context, tls->paths[2], SSL_FILETYPE_PEM) != 1)
		return file_error(tls->paths[2], why);
	if (SSL_CTX_check_private_key(context) != 1) {
		ERR_clear_error();
		return why_set(why, ERR_INVALID, "%s is not the key of %s", tls->paths[2], tls->paths[1]);
	}
	return ERR_OK;
}

static void set_rules(const struct tls *tls, SSL_CTX *context)
{
	bool mutual = tls->cluster != NULL;
	SSL_CTX_set_min_proto_version(context, mutual ? TLS1_3_VERSION : TLS1_2_VERSION);
	SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_num_tickets(context, 0);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* Records are read several at a time, and the faster of two strong ciphers comes first. */
	SSL_CTX_set_read_ahead(context, 1);
	SSL_CTX_set_default_read_buffer_len(context, 64 << 10);
	SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
	SSL_CTX_set_default_passwd_cb(context, no_passphrase);
	SSL_CTX_set_verify_depth(context, CHAIN_MAX);
	if (!tls->paths[1])
		SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	if (mutual)
		SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, on_verify);
}

static enum err context_create(const struct tls *tls, SSL_CTX **ret_context, struct identity *ret_self, struct why *why)
{
	SSL_CTX *context = SSL_CTX_new(TLS_method());
	if (!context)
		return ERR_NOMEM;
	set_rules(tls, context);
	struct why inner;
	enum err e = load(tls, context, why);
	if (e == ERR_OK && tls->cluster) {
		e = certificate_identity(SSL_CTX_get0_certificate(context), &inner, ret_self);
		if (e != ERR_OK)
			why_set(why, e, "%s: %s", tls->paths[1], inner.text);
		else if (strcmp(ret_self->cluster, tls->cluster) != 0)
			e = why_set(why, ERR_INVALID, "%s is of cluster \"%s\", this is \"%s\"", tls->paths[1],
				    ret_self->cluster, tls->cluster);
	}
	if (e != ERR_OK) {
		SSL_CTX_free(context);
		return e;
	}
	*ret_context = context;
	return ERR_OK;
}

/* Under the lock.  Whatever goes wrong, the certificates in use stay in use. */
static void reload_if_changed(struct tls *tls)
{
	struct stamp stamps[FILES];
	struct why why = {0};
	SSL_CTX *context = NULL;
	struct identity self = tls->self;
	if (look_at_all(tls, stamps, &why) != ERR_OK || memcmp(stamps, tls->stamps, sizeof(stamps)) == 0)
		return; /* missing for a moment, or unchanged */
	memcpy(tls->stamps, stamps, sizeof(stamps));
	enum err e = context_create(tls, &context, &self, &why);
	if (e == ERR_OK && memcmp(&self, &tls->self, sizeof(self)) != 0) {
		SSL_CTX_free(context);
		e = why_set(&why, ERR_INVALID, "%s names another node now", tls->paths[1]);
	}
	if (e != ERR_OK) {
		log_warn("tls > the old certificates stay in use: %s", why.text);
		return;
	}
	SSL_CTX_free(tls->context);
	tls->context = context;
	secret_warn_of_mode(tls->paths[2]);
	log_info("tls > read the renewed %s", tls->paths[1]);
}

/* ---- life ---- */

enum err tls_create(const struct tls_options *options, struct tls **ret_tls, struct why *why)
{
	const char *const paths[FILES] = {options->ca_file, options->certificate_file, options->key_file};
	bool is_client = paths[0] && !paths[1] && !paths[2] && !options->cluster;
	if (!is_client && (!paths[1] || !paths[2] || (options->cluster && !paths[0])))
		return why_set(why, ERR_INVALID, "tls: needs a certificate file, its key file%s",
			       options->cluster ? " and a CA file" : "");
	struct tls *tls = calloc(1, sizeof(*tls));
	if (!tls)
		return ERR_NOMEM;
	pthread_mutex_init(&tls->lock, NULL);
	enum err e = ERR_OK;
	tls->socket = socket_method();
	tls->cluster = options->cluster ? strdup(options->cluster) : NULL;
	for (int i = 0; i < FILES; i++)
		if (paths[i] && (i || options->cluster || is_client) && !(tls->paths[i] = strdup(paths[i])))
			e = ERR_NOMEM;
	if (!tls->socket || (options->cluster && !tls->cluster))
		e = ERR_NOMEM;
	if (e == ERR_OK)
		e = look_at_all(tls, tls->stamps, why);
	if (e == ERR_OK)
		e = context_create(tls, &tls->context, &tls->self, why);
	if (e != ERR_OK) {
		tls_destroy(tls);
		return e;
	}
	if (!is_client)
		secret_warn_of_mode(tls->paths[2]);
	*ret_tls = tls;
	return ERR_OK;
}

void tls_destroy(struct tls *tls)
{
	if (!tls)
		return;
	SSL_CTX_free(tls->context);
	BIO_meth_free(tls->socket);
	for (int i = 0; i < FILES; i++)
		free(tls->paths[i]);
	free(tls->cluster);
	pthread_mutex_destroy(&tls->lock);
	free(tls);
}

const struct identity *tls_self(const struct tls *tls)
{
	return tls && tls->cluster ? &tls->self : NULL;
}

/* The name that the certificate must have; addresses are entries of their own there. */
static bool expect_host(SSL *ssl, const char *host)
{
	if (!host)
		return true;
	X509_VERIFY_PARAM *rules = SSL_get0_param(ssl);
	if (X509_VERIFY_PARAM_set1_ip_asc(rules, host) == 1)
		return true;
	ERR_clear_error();
	return SSL_set_tlsext_host_name(ssl, host) == 1 && X509_VERIFY_PARAM_set1_host(rules, host, 0) == 1;
}

enum err tls_session(struct tls_judgement *judgement, int fd, SSL **ret_ssl)
{
	struct tls *tls = judgement->tls;
	pthread_mutex_lock(&tls->lock);
	reload_if_changed(tls);
	SSL *ssl = SSL_new(tls->context);
	pthread_mutex_unlock(&tls->lock);
	BIO *bio = ssl && expect_host(ssl, judgement->expect_host) ? BIO_new(tls->socket) : NULL;
	judgement->expect_host = NULL;
	if (!bio) {
		SSL_free(ssl);
		return ERR_NOMEM;
	}
	BIO_set_data(bio, (void *)(intptr_t)fd);
	SSL_set_bio(ssl, bio, bio);
	SSL_set_app_data(ssl, judgement);
	if (judgement->server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	*ret_ssl = ssl;
	return ERR_OK;
}

/* ---- refusals ---- */

static bool may_log(struct tls *tls)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	pthread_mutex_lock(&tls->lock);
	if (tls->log_second != now.tv_sec)
		tls->log_lines = 0;
	tls->log_second = now.tv_sec;
	bool may = tls->log_lines < LOG_LINES_MAX;
	tls->log_lines++;
	pthread_mutex_unlock(&tls->lock);
	return may;
}

void tls_refuse(struct tls *tls, enum refusal refusal, const char *peer, const char *text)
{
	__atomic_add_fetch(&tls->refused[refusal], 1, __ATOMIC_RELAXED);
	/* Probes of a load balancer connect and leave: counted only. */
	if (refusal != REFUSAL_ABANDONED && may_log(tls))
		log_warn("tls > %s refused (%s): %s", peer, refusal_text(refusal), text);
}

uint64_t tls_refused(const struct tls *tls, enum refusal refusal)
{
	return __atomic_load_n(&tls->refused[refusal], __ATOMIC_RELAXED);
}
