/* err - what may go wrong, as one number that may also travel on the wire.
 *
 * One X-list gives name, number, scope and text.  Append only: the numbers are protocol.
 * The scope says what dies with the error, so that a caller knows what it may try next.
 * A failing call changed nothing that its caller can see, unless its header says otherwise. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#define MUST_USE __attribute__((warn_unused_result))

#define ERR_MAP(X) /* name, number, what dies with it, text */                    \
	X(OK, 0, NONE, "ok")                                                      \
	X(AGAIN, 1, NONE, "no room now; retry later")                             \
	X(NOT_FOUND, 2, NONE, "not found")                                        \
	X(CANCELED, 3, REQUEST, "canceled")                                       \
	X(DEADLINE, 4, REQUEST, "out of time")                                    \
	X(INVALID, 5, REQUEST, "invalid input")                                   \
	X(TOO_LARGE, 6, REQUEST, "over a limit")                                  \
	X(UNSUPPORTED, 7, REQUEST, "not supported")                               \
	X(PEER_GONE, 8, PEER, "connection to peer lost")                          \
	X(DEVICE, 9, NODE, "accelerator failed")                                  \
	X(NOMEM, 10, NONE, "out of memory")                                       \
	X(IO, 11, NODE, "input/output error")                                     \
	X(CORRUPT, 12, REQUEST, "data does not match its digest or format")       \
	X(STALE, 13, REQUEST, "generation or epoch is over")                      \
	X(EXISTS, 14, NONE, "exists already")                                     \
	X(MISMATCH, 15, PEER, "peer is of another model, class, layout or version") \
	X(UNAVAILABLE, 16, NONE, "no node of that role is available")             \
	X(DRAINING, 17, NONE, "node is draining")                                 \
	X(PROTOCOL, 18, PEER, "peer broke the protocol")                          \
	X(DENIED, 19, REQUEST, "not allowed")                                     \
	X(BUSY, 20, NONE, "address or resource is in use")

enum err {
#define X(name, number, scope, text) ERR_##name = number,
	ERR_MAP(X)
#undef X
};

enum err_scope { ERR_SCOPE_NONE, ERR_SCOPE_REQUEST, ERR_SCOPE_PEER, ERR_SCOPE_NODE };

/* "connection to peer lost"; "unknown error" for a number this version does not know. */
const char *err_text(enum err e);
/* "PEER_GONE" */
const char *err_name(enum err e);
enum err_scope err_scope(enum err e);
#endif
