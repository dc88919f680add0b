#include "base/err.h"

const char *err_text(enum err e)
{
	switch (e) {
#define X(name, number, scope, text) \
	case ERR_##name:             \
		return text;
		ERR_MAP(X)
#undef X
	}
	return "unknown error";
}

const char *err_name(enum err e)
{
	switch (e) {
#define X(name, number, scope, text) \
	case ERR_##name:             \
		return #name;
		ERR_MAP(X)
#undef X
	}
	return "UNKNOWN";
}

enum err_scope err_scope(enum err e)
{
	switch (e) {
#define X(name, number, scope, text) \
	case ERR_##name:             \
		return ERR_SCOPE_##scope;
		ERR_MAP(X)
#undef X
	}
	return ERR_SCOPE_PEER;
}
