#include "kvstore/disk_key.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/secret.h"
#include "kvstore/disk_format.h"

enum { KEY_BYTES = 32 };

struct disk_key {
	uint8_t key[KEY_BYTES];
	EVP_MAC *poly1305;
};

/* So that a secret that serves for something else too never makes the same numbers. */
static const char purpose[] = "baton: records of a store's disk";

static enum err read_secret(const char *path, uint8_t secret[DISK_SECRET_MAX + 1], size_t *ret_length, struct why *why)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, secret, DISK_SECRET_MAX + 1);
	int failure = errno;
	if (fd >= 0)
		close(fd);
	if (length < 0)
		return why_set(why, ERR_NOT_FOUND, "--disk-key %s: %s", path, strerror(failure));
	if (length < DISK_SECRET_MIN || length > DISK_SECRET_MAX)
		return why_set(why, ERR_INVALID, "--disk-key %s: %s%zd bytes, expected %d to %d", path,
			       length > DISK_SECRET_MAX ? "at least " : "", length, DISK_SECRET_MIN, DISK_SECRET_MAX);
	*ret_length = (size_t)length;
	return ERR_OK;
}

enum err disk_key_read(const char *path, struct disk_key **ret_key, struct why *why)
{
	uint8_t secret[DISK_SECRET_MAX + 1];
	size_t length = 0;
	enum err e = read_secret(path, secret, &length, why);
	if (e != ERR_OK)
		return e;
	struct disk_key *key = calloc(1, sizeof(*key));
	if (key) {
		hash_hmac(secret, length, purpose, sizeof(purpose) - 1, key->key);
		key->poly1305 = EVP_MAC_fetch(NULL, "POLY1305", NULL);
	}
	OPENSSL_cleanse(secret, sizeof(secret));
	if (!key || !key->poly1305) {
		disk_key_destroy(key);
		return why_set(why, ERR_NOMEM, "no memory for the key of the disk, or libcrypto has no Poly1305");
	}
	secret_warn_of_mode(path);
	*ret_key = key;
	return ERR_OK;
}

void disk_key_destroy(struct disk_key *key)
{
	if (!key)
		return;
	EVP_MAC_free(key->poly1305);
	OPENSSL_cleanse(key->key, sizeof(key->key));
	free(key);
}

enum err disk_key_tag(const struct disk_key *key, const uint8_t *header, const void *payload, size_t length,
		      uint8_t ret_tag[DISK_TAG_BYTES])
{
	uint8_t once[KEY_BYTES];
	hash_hmac(key->key, KEY_BYTES, header, DISK_SIGNED_BYTES, once);
	EVP_MAC_CTX *mac = EVP_MAC_CTX_new(key->poly1305);
	bool done = mac && EVP_MAC_init(mac, once, KEY_BYTES, NULL) && EVP_MAC_update(mac, payload, length) &&
		    EVP_MAC_final(mac, ret_tag, NULL, DISK_TAG_BYTES);
	EVP_MAC_CTX_free(mac);
	OPENSSL_cleanse(once, sizeof(once));
	return done ? ERR_OK : ERR_NOMEM;
}
