#include "net/certs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "net/identity.h"

enum { PATH_BYTES = 4096, CA_DAYS = 3650, NODE_DAYS = 90, HOSTS_BYTES = 4096 };

static enum err openssl_error(const char *what, struct why *why)
{
	const char *reason = ERR_reason_error_string(ERR_peek_error());
	enum err e = why_set(why, ERR_IO, "%s: %s", what, reason ? reason : "OpenSSL failed");
	ERR_clear_error();
	return e;
}

/* ---- files: written beside and renamed, so that a reader sees the old or the new one ---- */

static enum err write_file(const char *path, mode_t mode, int (*put)(FILE *file, void *object), void *object,
			   struct why *why)
{
	char beside[PATH_BYTES];
	snprintf(beside, sizeof(beside), "%.4080s.new", path);
	int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	FILE *file = fd >= 0 && fchmod(fd, mode) == 0 ? fdopen(fd, "w") : NULL;
	if (!file) {
		if (fd >= 0)
			close(fd);
		return why_set(why, ERR_IO, "%s: %m", beside);
	}
	int good = put(file, object);
	good &= fclose(file) == 0;
	if (good && rename(beside, path) == 0)
		return ERR_OK;
	why_set(why, ERR_IO, "%s: %m", path);
	unlink(beside);
	return ERR_IO;
}

static int put_key(FILE *file, void *key)
{
	return PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
}

static int put_certificate(FILE *file, void *certificate)
{
	return PEM_write_X509(file, certificate);
}

static enum err write_pair(const char *dir, const char *name, X509 *certificate, EVP_PKEY *key, struct why *why)
{
	char path[PATH_BYTES];
	snprintf(path, sizeof(path), "%s/%s.key", dir, name);
	enum err e = write_file(path, 0600, put_key, key, why);
	snprintf(path, sizeof(path), "%s/%s.pem", dir, name);
	return e == ERR_OK ? write_file(path, 0644, put_certificate, certificate, why) : e;
}

static enum err read_ca(const char *dir, X509 **ret_certificate, EVP_PKEY **ret_key, struct why *why)
{
	char path[PATH_BYTES];
	snprintf(path, sizeof(path), "%s/ca.pem", dir);
	FILE *file = fopen(path, "re");
	X509 *certificate = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
	if (file)
		fclose(file);
	if (!certificate)
		return openssl_error(path, why);
	snprintf(path, sizeof(path), "%s/ca.key", dir);
	file = fopen(path, "re");
	EVP_PKEY *key = file ? PEM_read_PrivateKey(file, NULL, NULL, NULL) : NULL;
	if (file)
		fclose(file);
	if (!key) {
		X509_free(certificate);
		return openssl_error(path, why);
	}
	*ret_certificate = certificate;
	*ret_key = key;
	return ERR_OK;
}

/* ---- certificates ---- */

static int add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;
	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	int good = extension && X509_add_ext(certificate, extension, -1);
	X509_EXTENSION_free(extension);
	return good;
}

/* 16 random bytes, positive. */
static int set_serial(X509 *certificate)
{
	unsigned char bytes[16];
	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return 0;
	bytes[0] = (unsigned char)((bytes[0] & 0x7f) | 0x40);
	BIGNUM *number = BN_bin2bn(bytes, sizeof(bytes), NULL);
	int good = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
	BN_free(number);
	return good;
}

static X509 *blank(const char *common_name, EVP_PKEY *key, int64_t begin_s, int64_t end_s)
{
	X509 *certificate = X509_new();
	time_t now = time(NULL);
	X509_NAME *name = X509_NAME_new();
	int good = certificate && name && X509_set_version(certificate, 2) && set_serial(certificate) &&
		   X509_time_adj_ex(X509_getm_notBefore(certificate), 0, (long)begin_s, &now) &&
		   X509_time_adj_ex(X509_getm_notAfter(certificate), 0, (long)end_s, &now) &&
		   X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1, 0) &&
		   X509_set_subject_name(certificate, name) && X509_set_pubkey(certificate, key);
	X509_NAME_free(name);
	if (good)
		return certificate;
	X509_free(certificate);
	return NULL;
}

enum err certs_make_ca(const char *dir, const char *cluster, struct why *why)
{
	char path[PATH_BYTES], name[128];
	snprintf(path, sizeof(path), "%s/ca.pem", dir);
	int have = access(path, F_OK) == 0;
	snprintf(path, sizeof(path), "%s/ca.key", dir);
	if (have && access(path, F_OK) == 0)
		return ERR_OK;
	snprintf(name, sizeof(name), "Baton CA of %.60s", cluster);
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = key ? blank(name, key, -3600, (int64_t)CA_DAYS * 86400) : NULL;
	enum err e;
	if (certificate && X509_set_issuer_name(certificate, X509_get_subject_name(certificate)) &&
	    add_extension(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
	    add_extension(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign") &&
	    add_extension(certificate, certificate, NID_subject_key_identifier, "hash") &&
	    X509_sign(certificate, key, EVP_sha256()))
		e = write_pair(dir, "ca", certificate, key, why);
	else
		e = openssl_error("making a CA", why);
	X509_free(certificate);
	EVP_PKEY_free(key);
	return e;
}

static enum err alternative_names(const struct certs_node *node, struct why *why, char *ret_text)
{
	char uri[IDENTITY_URI_MAX + 1];
	unsigned char ignored[16];
	enum err e = node->uri ? ERR_OK : identity_format(node->cluster, node->role, node->name, why, uri);
	if (e != ERR_OK)
		return e;
	const char *used = node->uri ? node->uri : uri;
	int length = snprintf(ret_text, HOSTS_BYTES, "DNS:localhost,IP:127.0.0.1,IP:::1%s%s", *used ? ",URI:" : "", used);
	for (size_t i = 0; i < node->host_count && length < HOSTS_BYTES; i++) {
		const char *host = node->hosts[i];
		bool is_number = inet_pton(AF_INET, host, ignored) == 1 || inet_pton(AF_INET6, host, ignored) == 1;
		/* A comma would begin another entry: the text is a little language of OpenSSL's. */
		if (!is_number && (!*host || strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-*") !=
						 strlen(host)))
			return why_set(why, ERR_INVALID, "host \"%.80s\": expected a name or an address", host);
		length += snprintf(ret_text + length, (size_t)(HOSTS_BYTES - length), ",%s:%s", is_number ? "IP" : "DNS", host);
	}
	return length < HOSTS_BYTES ? ERR_OK : why_set(why, ERR_TOO_LARGE, "%zu hosts are too many", node->host_count);
}

static enum err make_leaf(const char *dir, const struct certs_node *node, const char *names, X509 *ca, EVP_PKEY *ca_key,
			  struct why *why)
{
	bool default_time = node->begin_s == 0 && node->end_s == 0;
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *leaf = key ? blank(node->name, key, default_time ? -3600 : node->begin_s,
				 default_time ? (int64_t)NODE_DAYS * 86400 : node->end_s)
			 : NULL;
	enum err e;
	if (leaf && X509_set_issuer_name(leaf, X509_get_subject_name(ca)) &&
	    add_extension(leaf, ca, NID_basic_constraints, "critical,CA:FALSE") &&
	    add_extension(leaf, ca, NID_key_usage, "critical,digitalSignature") &&
	    add_extension(leaf, ca, NID_ext_key_usage, "serverAuth,clientAuth") &&
	    add_extension(leaf, ca, NID_authority_key_identifier, "keyid") &&
	    add_extension(leaf, ca, NID_subject_alt_name, names) && X509_sign(leaf, ca_key, EVP_sha256()))
		e = write_pair(dir, node->name, leaf, key, why);
	else
		e = openssl_error("making a certificate", why);
	X509_free(leaf);
	EVP_PKEY_free(key);
	return e;
}

enum err certs_make_node(const char *dir, const struct certs_node *node, struct why *why)
{
	char names[HOSTS_BYTES];
	X509 *ca = NULL;
	EVP_PKEY *ca_key = NULL;
	enum err e = alternative_names(node, why, names);
	if (e == ERR_OK)
		e = read_ca(dir, &ca, &ca_key, why);
	if (e == ERR_OK)
		e = make_leaf(dir, node, names, ca, ca_key, why);
	X509_free(ca);
	EVP_PKEY_free(ca_key);
	return e;
}
