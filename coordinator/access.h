/* access - who asks, and may they: API keys, roles, tenants.  Asked once for each HTTP request, before anything else.
 *
 * Without keys everybody who reaches the API may use it; what is for administrators then answers to this host only.
 * With keys a route answers as its class says, and a route that says nothing is for administrators (deny by default):
 *
 *             no key   wrong key   user   metrics   admin
 *   PUBLIC    yes      yes         yes    yes       yes
 *   API       401      401         yes    403       yes
 *   METRICS   401      401         403    yes       yes        everybody with metrics_public
 *   ADMIN     401      401         403    403       yes
 *
 * A key's tenant is its file's.  x-baton-tenant is honoured from administrators, and from everybody where there are no keys.
 * The KV of two tenants has different keys everywhere (kvstore/key.h): the salt in them is the HMAC of the tenant's name
 * under a secret that all coordinators share, so a tenant's prefixes are found through any of them, and who knows a
 * tenant's name can still not compute a key of its blocks.
 *
 * Owns:   the table, the secret; watches the file and reads it again when it changes or on SIGHUP.  A file that is wrong
 *         changes nothing and is logged once.
 * Loop:   the one given.
 * Bounds: those of access_table.h. */
#ifndef COORDINATOR_ACCESS_H
#define COORDINATOR_ACCESS_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/options.h"
#include "base/why.h"
#include "coordinator/access_table.h"

struct access;
struct loop;

enum { ACCESS_SALT_BYTES = 32, ACCESS_SECRET_MIN = 16, ACCESS_SECRET_MAX = 4096 };

/* What a route is.  ADMIN is 0: whoever forgets to say has said "nobody". */
enum access_class { ACCESS_ADMIN, ACCESS_METRICS, ACCESS_API, ACCESS_PUBLIC };
const char *access_class_text(enum access_class class); /* "admin" */

struct access_options {
	const struct option_list *api_keys;   /* users', plain: hashed at once, not kept.  NULL: none */
	const struct option_list *admin_keys; /* administrators', likewise */
	const char *keys_file;              /* NULL: none */
	const char *tenant_salt_file;       /* the secret; NULL: none */
	bool metrics_public;
};

/* loop NULL: nothing is watched (tests).  Errors name file, entry and what was expected. */
MUST_USE enum err access_create(struct loop *loop, const struct access_options *options, struct access **ret_access,
				struct why *why);
void access_destroy(struct access *access);

struct access_question {
	enum access_class class;
	const char *authorization; /* the header; NULL: none came */
	const char *tenant;        /* x-baton-tenant; NULL: none came */
	bool from_this_host;
};

enum access_verdict { ACCESS_GRANTED, ACCESS_KEY_MISSING, ACCESS_KEY_WRONG, ACCESS_FORBIDDEN, ACCESS_TENANT_WRONG };

/* Of one request, by value: a table that is read again in between changes nothing for it. */
struct access_grant {
	char key[ACCESS_NAME_MAX + 1];    /* the entry's name, for logs; "" */
	char tenant[ACCESS_NAME_MAX + 1]; /* "": none */
	bool salted;                      /* else every salt is the client's own */
	uint8_t salt[ACCESS_SALT_BYTES];
	struct access_limits limits;
};

enum access_verdict access_judge(struct access *access, const struct access_question *question,
				 struct access_grant *ret_grant);

bool access_has_keys(const struct access *access);
/* Reads the file again, as SIGHUP does. */
enum err access_reload(struct access *access, struct why *why);

struct access_counts {
	uint64_t key_missing, key_wrong, forbidden; /* refused */
	uint64_t reloads, reload_errors;
	uint32_t keys, tenants;
};
void access_counts(const struct access *access, struct access_counts *ret_counts);
#endif
