/* access_table - who may ask, as a file says it: keys, their tenants and roles, and what each tenant may use.
 *
 *   defaults:                        # of every tenant that does not say otherwise; all limits: 0 is none
 *     concurrent: 64
 *   tenants:
 *     acme: {weight: 2, requests-per-minute: 600, tokens-per-minute: 200000, concurrent: 32, queued: 64, context: 4096}
 *   keys:
 *     - {name: acme-web, tenant: acme, sha256: 9f86…}                # as `baton key new` prints it
 *     - {name: prometheus, role: metrics, sha256: 1b4f…}
 *     - {name: oncall, role: admin, sha256: 60303…}
 *
 * The file holds digests only: who reads it can use no key.  A field that is not known, a key without a digest, and a
 * name or digest that is there twice are errors that name the entry.
 *
 * Owns:   nothing outside itself: a value without pointers.
 * Bounds: a file of at most 1 MiB, ACCESS_KEYS_MAX keys, ACCESS_TENANTS_MAX tenants. */
#ifndef COORDINATOR_ACCESS_TABLE_H
#define COORDINATOR_ACCESS_TABLE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "coordinator/keys.h"

enum { ACCESS_KEYS_MAX = 1024, ACCESS_TENANTS_MAX = 64, ACCESS_NAME_MAX = 63, ACCESS_WEIGHT_MAX = 1000 };

/* 0: no limit; weight 0: 1. */
struct access_limits {
	uint32_t weight;              /* share of the nodes among tenants that wait */
	uint32_t requests_per_minute;
	uint32_t tokens_per_minute;   /* prompt and answer */
	uint32_t concurrent;          /* requests that run */
	uint32_t queued;              /* and that wait beside them */
	uint32_t context;             /* tokens of prompt and answer of one request */
};

/* USER: the API.  METRICS: /metrics and nothing else.  ADMIN: everything. */
enum access_role { ACCESS_USER, ACCESS_METRICS_READER, ACCESS_ADMINISTRATOR };

struct access_tenant {
	char name[ACCESS_NAME_MAX + 1];
	struct access_limits limits;
};

struct access_key {
	char name[ACCESS_NAME_MAX + 1];
	char tenant[ACCESS_NAME_MAX + 1]; /* "": none */
	enum access_role role;
};

struct access_table {
	uint32_t key_count, tenant_count;
	struct key_digest digests[ACCESS_KEYS_MAX]; /* of keys, apart from them: all are looked at for each request */
	struct access_key keys[ACCESS_KEYS_MAX];
	struct access_tenant tenants[ACCESS_TENANTS_MAX];
	struct access_limits defaults;
};

/* Adds what the file says.  ERR_NOT_FOUND, ERR_INVALID, ERR_TOO_LARGE; the table is then of no use. */
MUST_USE enum err access_table_read(struct access_table *table, const char *path, struct why *why);
/* ERR_EXISTS: the digest is there; ERR_TOO_LARGE. */
MUST_USE enum err access_table_add(struct access_table *table, const struct access_key *key, const struct key_digest *digest,
				   struct why *why);
/* A tenant's limits, or the defaults. */
const struct access_limits *access_table_limits(const struct access_table *table, const char *tenant);
/* 1 to ACCESS_NAME_MAX bytes of letters, digits and "._-": they stand in logs and metrics. */
bool access_name_is_good(const char *name);
#endif
