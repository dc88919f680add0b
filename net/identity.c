#include "net/identity.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "net/env.h"

enum {
	PREFILL = 1 << WIRE__ROLE__ROLE_PREFILL,
	DECODE = 1 << WIRE__ROLE__ROLE_DECODE,
	BOTH = 1 << WIRE__ROLE__ROLE_BOTH,
	KVSTORE = 1 << WIRE__ROLE__ROLE_KVSTORE,
	COORDINATOR = 1 << WIRE__ROLE__ROLE_COORDINATOR,
	OPERATOR = 1 << WIRE__ROLE__ROLE_OPERATOR,
	ENGINES = PREFILL | DECODE | BOTH,
};

static const struct {
	const char *text;
	uint32_t roles;
} role_names[] = {
	{"coordinator", COORDINATOR}, {"prefill", PREFILL}, {"decode", DECODE},
	{"both", BOTH},               {"engine", ENGINES},  {"kvstore", KVSTORE},
	{"operator", OPERATOR},
};

const char *refusal_text(enum refusal refusal)
{
	static const char *const texts[] = {
#define X(name, text) text,
		REFUSAL_MAP(X)
#undef X
	};
	return (unsigned)refusal < REFUSAL_COUNT ? texts[refusal] : "unknown";
}

size_t refusals_report(const struct env *env, uint64_t *ret_counts)
{
	for (unsigned reason = 0; env->refused && reason < REFUSAL_COUNT; reason++)
		ret_counts[reason] = env->refused(env->context, reason);
	return env->refused ? REFUSAL_COUNT : 0;
}

/* One part of the path, up to '/' or the end; moves *at behind it. */
static bool take_part(const char **at, const char *end, char *ret_text, size_t size)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	const char *slash = memchr(*at, '/', (size_t)(end - *at));
	size_t length = (size_t)((slash ? slash : end) - *at);
	if (length == 0 || length >= size)
		return false;
	memcpy(ret_text, *at, length);
	ret_text[length] = 0;
	*at = slash ? slash + 1 : end;
	/* An embedded zero byte shortens the text, and strspn() tells. */
	return strspn(ret_text, allowed) == length;
}

static bool take_role(const char *text, uint32_t *ret_roles)
{
	for (size_t i = 0; i < sizeof(role_names) / sizeof(role_names[0]); i++) {
		if (strcmp(role_names[i].text, text) != 0)
			continue;
		*ret_roles = role_names[i].roles;
		return true;
	}
	return false;
}

enum err identity_parse(const char *uri, size_t length, struct why *why, struct identity *ret_identity)
{
	static const char scheme[] = "spiffe://";
	struct identity identity = {0};
	char room[8];
	if (length > IDENTITY_URI_MAX)
		return why_set(why, ERR_INVALID, "identity of %zu bytes, at most %d", length, IDENTITY_URI_MAX);
	if (length < sizeof(scheme) || memcmp(uri, scheme, sizeof(scheme) - 1) != 0)
		return why_set(why, ERR_INVALID, "identity is no spiffe:// URI");
	const char *at = uri + sizeof(scheme) - 1, *end = uri + length;
	if (!take_part(&at, end, identity.cluster, sizeof(identity.cluster)))
		return why_set(why, ERR_INVALID, "identity: no cluster of 1 to %d plain characters", IDENTITY_NAME_MAX);
	if (!take_part(&at, end, room, sizeof(room)) || strcmp(room, "baton") != 0)
		return why_set(why, ERR_INVALID, "identity: expected spiffe://<cluster>/baton/<role>/<name>");
	if (!take_part(&at, end, identity.role, sizeof(identity.role)) || !take_role(identity.role, &identity.roles))
		return why_set(why, ERR_INVALID,
			       "identity: the role is none of coordinator, prefill, decode, both, engine, kvstore, operator");
	if (!take_part(&at, end, identity.name, sizeof(identity.name)) || at != end || end[-1] == '/')
		return why_set(why, ERR_INVALID, "identity: no name of 1 to %d plain characters at the end",
			       IDENTITY_NAME_MAX);
	*ret_identity = identity;
	return ERR_OK;
}

enum err identity_format(const char *cluster, const char *role, const char *name, struct why *why, char *ret_uri)
{
	struct identity identity;
	int length = snprintf(ret_uri, IDENTITY_URI_MAX + 1, "spiffe://%s/baton/%s/%s", cluster, role, name);
	return identity_parse(ret_uri, (size_t)length, why, &identity);
}

uint64_t identity_name_node(const char *name)
{
	uint64_t id = hash_xxh3(name, strlen(name), 0);
	return id ? id : 1;
}

uint64_t identity_node(const struct identity *identity)
{
	return identity_name_node(identity->name);
}

bool identity_has_role(const struct identity *identity, Wire__Role role)
{
	return (unsigned)role < 32 && (identity->roles >> role & 1);
}

/* Whom a role dials: a coordinator all that work, an engine engines and stores, stores and operators stores. */
static uint32_t dialed_by(Wire__Role role)
{
	switch (role) {
	case WIRE__ROLE__ROLE_COORDINATOR:
	case WIRE__ROLE__ROLE_PREFILL:
	case WIRE__ROLE__ROLE_DECODE:
	case WIRE__ROLE__ROLE_BOTH:
		return ENGINES | KVSTORE;
	case WIRE__ROLE__ROLE_KVSTORE:
	case WIRE__ROLE__ROLE_OPERATOR:
		return KVSTORE;
	default:
		return 0;
	}
}

bool role_may_dial(Wire__Role dialer, Wire__Role dialed)
{
	return (unsigned)dialed < 32 && (dialed_by(dialer) >> dialed & 1);
}

bool identity_may_dial(const struct identity *dialer, const struct identity *dialed)
{
	for (int role = 0; role <= WIRE__ROLE__ROLE_OPERATOR; role++)
		if (identity_has_role(dialer, (Wire__Role)role) && (dialed_by((Wire__Role)role) & dialed->roles))
			return true;
	return false;
}

bool identity_may_read(const struct identity *one, const struct identity *other)
{
	const uint32_t members = ENGINES | KVSTORE;
	if ((one->roles & members) && (other->roles & members))
		return true;
	return ((one->roles & OPERATOR) && (other->roles & KVSTORE)) || ((one->roles & KVSTORE) && (other->roles & OPERATOR));
}

enum refusal identity_check_hello(const struct identity *identity, const Wire__Hello *hello)
{
	if (strcmp(identity->name, hello->name) != 0 || hello->node != identity_node(identity))
		return REFUSAL_NAME;
	return identity_has_role(identity, hello->role) ? REFUSAL_COUNT : REFUSAL_ROLE;
}
