/* core_impl - the core from inside: requests, jobs, and what its files call of each other.
 *
 * A request has one to n jobs.  A job is one context with the choices that share it, tried on one pair of nodes at
 * a time.  It starts with all choices; after a failure each unfinished choice with tokens of its own becomes a job of
 * one choice (DESIGN 4.7).  Drawing and table of the states: job.c. */
#ifndef COORDINATOR_CORE_IMPL_H
#define COORDINATOR_CORE_IMPL_H
#include "base/layer_groups.h"
#include "coordinator/core.h"
#include "coordinator/fair.h"
#include "coordinator/index.h"
#include "coordinator/lead.h"
#include "coordinator/pace.h"
#include "coordinator/registry.h"
#include "coordinator/store_loads.h"
#include "coordinator/tokens.h"

_Static_assert((int)FAIR_CLASSES == (int)COORD_CLASSES, "classes are served in their order");

#define HELD_NONE   UINT32_MAX
#define RECORD_NONE UINT32_MAX

/* How much a job would rather have another node. */
enum { AVOID_REFUSED = 1, AVOID_FAILED, AVOID_ALWAYS };

enum {
	AVOIDED_MAX = 8,      /* nodes remembered of one job */
	HOLDERS_MAX = 16,     /* hints in one Reserve */
	BLOCK_TOKENS_MIN = 8, /* smaller blocks: only so many keys of a context are looked up */
	COMPATS_MAX = 4,      /* of one model name, while it is rolled over */
	APART_MAX = 32,       /* pairs remembered whose hand-over failed; the oldest is forgotten */
};

enum job_state {
	JOB_FREE,
	JOB_QUEUED,
	JOB_RESERVING,
	JOB_PREFILLING,
	JOB_DECODING,
	JOB_RECOVERING,
	JOB_CLOSING,
	JOB_STATES,
};

/* NONE -> ASKED -> HELD -> RUNNING -> OVER; a cancelled or refused one is OVER at once, except in a closing job. */
enum half_state { HALF_NONE, HALF_ASKED, HALF_HELD, HALF_RUNNING, HALF_OVER };

struct half {
	enum half_state state;
	bool cancelled; /* a Cancel of the whole was sent: only JobEnd is awaited */
	uint32_t node;
	struct work charged; /* to the node's `own` */
};

struct avoided {
	uint32_t node;
	uint64_t incarnation;
	uint32_t level;
};

struct job {
	enum job_state state;
	uint64_t number;   /* on the wire; stays over the attempts */
	uint32_t attempt;  /* of the last try, 0: none yet */
	uint32_t started;  /* attempts started, with those of the job it was split from */
	uint32_t choices;  /* bit mask: unfinished choices of this job */
	bool both;         /* half[0] does all */
	bool decode_proven; /* decode gave a token: it has everything, prefill may go */
	struct half half[2]; /* prefill or both; decode */
	uint32_t record;   /* of the running attempt, RECORD_NONE: not listed */
	uint32_t uncached; /* tokens to compute, by the index: for the silence bound */
	uint32_t refusals; /* in a row */
	uint64_t asked_ns, progress_ns;
	uint64_t since_ns;  /* when the wait (queue, recovery) or the closing began */
	uint64_t nobody_ns; /* since when no node of a role lives; 0: there is one */
	uint64_t retry_ns;  /* before that, only nodes that need not be avoided */
	enum err last_error;
	struct avoided avoided[AVOIDED_MAX];
	uint32_t avoided_next;
	struct request *request;
	struct job *wait_prev, *wait_next; /* in a waiting list */
};

struct choice {
	struct token_run tokens; /* generated and forwarded */
	uint32_t base;           /* generated before the running attempt */
	bool over;
	Wire__Finish finish;
	uint32_t held_first, held_last, held_count; /* tokens of decode that came before prefill's */
};

/* What is still owed of a listed attempt: the JobEnd of each half. */
struct record {
	bool open[2];
	uint32_t node[2];
};

struct request {
	bool used;
	uint32_t next_free;
	uint64_t number; /* the shell's handle, and the number of its first job */
	void *user;
	char id[COORD_TEXT_MAX + 1], model[COORD_TEXT_MAX + 1], tenant[COORD_TEXT_MAX + 1];
	uint8_t salt[COORD_SALT_MAX];
	uint32_t salt_length;
	struct sampling sampling;
	const char *structure; /* the shell's; "": none */
	enum coord_class class;
	struct fair_item place; /* while it waits for its first pair, and what it was charged with since */
	uint32_t prompt_count, choice_count;
	uint32_t live; /* choices that are not over */
	uint32_t promised; /* pages */
	uint32_t scored;   /* prompt tokens after the first whose log-probabilities were forwarded */
	struct token_run prompt;
	struct token_run keys; /* of the prompt's full blocks, four words each, for keys_compat: of every layer group, or of the
	                        * first where that is all that fits what was promised */
	struct id128 keys_compat;
	bool pinned; /* tokens of this compat were forwarded: no other may go on (law 1) */
	struct id128 compat;
	uint64_t deadline_ns, accepted_ns, over_ns;
	struct choice *choices; /* [choices_max] */
	struct job *jobs;       /* [choices_max] */
	struct record records[COORD_ATTEMPTS_LISTED];
	struct coord_outcome outcome; /* filled on the way */
	struct route_record route;    /* the last decision */
};

struct held {
	uint32_t next;
	uint32_t position;
	Wire__Finish finish;
	uint32_t stop_token;
	struct sample sample;
};

/* Jobs to be recovered, first come first served, before all that wait for a first pair (fair.h). */
struct wait_list {
	struct job *first, *last;
	uint32_t count;
};

/* Two nodes whose hand-over failed while both live: new jobs keep away from the pair for a while. */
struct apart {
	struct route_apart pair;
	uint64_t incarnation[2];
	uint64_t until_ns; /* 0: free */
};

struct scratch {
	uint32_t *tokens;               /* [context_max + TOKENS_PAGE] */
	struct id128 *keys[LAYER_GROUPS_MAX]; /* [keys_max] of each layer group */
	struct id128 *kept;             /* [keys_max]: keys as they lie with a request */
	struct index_match *matches;    /* [nodes_max] */
	uint32_t *depths;               /* [nodes_max] */
	struct route_candidate *candidates; /* [nodes_max] */
};

struct coord {
	struct coord_options options; /* resolved */
	struct sessions *sessions;
	struct block_index *index;
	struct registry registry;
	struct store_loads stores;
	struct token_pool pool;
	struct request *requests; /* [requests_max] */
	uint32_t request_free;
	uint64_t serial;
	struct wait_list recovering;
	struct fair fair;
	struct pace pace;
	uint32_t *slots; /* [peer_max] node of a session */
	struct held *held;
	uint32_t held_free;
	uint32_t keys_max;
	uint32_t turn;
	uint64_t now_ns; /* of the event that is handled */
	uint64_t opened_ns; /* its first moment; 0: not yet */
	bool draining;
	bool in_hook;
	struct lead lead;
	uint64_t directives_sent, directives_refused;
	struct coord_counters counters;
	struct scratch scratch;
	struct apart apart[APART_MAX];
	uint32_t apart_next;
};

/* ---- core.c */
void core_send(struct coord *coord, uint32_t node, const Wire__Envelope *envelope);
static inline struct registry_node *core_node(struct coord *coord, uint32_t node)
{
	return &coord->registry.nodes[node];
}
void core_job_id(const struct coord *coord, const struct job *job, Wire__JobId *ret_id);

/* ---- direct.c: what the leader says to nodes */
void direct_node_up(struct coord *coord, uint32_t node, uint64_t now_ns);
void direct_done(struct coord *coord, const Wire__DirectiveDone *done, uint64_t now_ns);
void direct_tick(struct coord *coord, uint64_t now_ns);

/* ---- job.c: states, waiting lists, halves */
const char *job_state_text(enum job_state state);
bool job_may_move(enum job_state from, enum job_state to);
void job_move(struct job *job, enum job_state to);
void job_wait(struct coord *coord, struct job *job, enum job_state state, uint64_t now_ns);
void job_unwait(struct coord *coord, struct job *job);
uint32_t job_context(const struct job *job); /* tokens */
void half_charge(struct coord *coord, struct half *half, struct work work);
void half_discharge(struct coord *coord, struct half *half);
/* The half holds nothing of ours any more. */
void half_over(struct coord *coord, struct half *half);
void half_cancel(struct coord *coord, const struct job *job, struct half *half, enum err why);
/* Cancels what lives of both halves; they are over. */
void job_drop_halves(struct coord *coord, struct job *job, enum err why);
bool job_halves_over(const struct job *job);
void job_avoid(struct coord *coord, struct job *job, uint32_t node, uint32_t level);
uint32_t job_avoids(const struct coord *coord, const struct job *job, uint32_t node);
/* The live job of that number, with this attempt; NULL: it is over. */
struct job *job_find(struct coord *coord, const Wire__JobId *id);
struct request *request_find(struct coord *coord, uint64_t number);
/* Which half of the job runs on the node: 0, 1, or 2 for none. */
uint32_t job_half_of(const struct job *job, uint32_t node);

/* ---- pairs.c: which two nodes can do a context together */
struct wanted {
	const char *model;
	uint32_t tokens;            /* of prompt and answer */
	const struct id128 *compat; /* NULL: any */
	const struct job *job;      /* whose nodes to avoid always are left out; NULL: none */
};
struct wanted request_wants(const struct request *request);
/* Living, not draining, of that model and class, and it holds so many tokens. */
bool node_takes(const struct registry_node *node, const struct wanted *wanted);
/* The decode node says that nothing it requires reaches the prefill node; context: the coord. */
bool pair_is_refused(const void *context, uint32_t prefill, uint32_t decode);
/* Some pair would take it, had they room; why not otherwise. */
bool pairs_live(const struct coord *coord, const struct wanted *wanted, struct why *why);
/* The job's hand-over failed, and which of the two is to blame is not known. */
void job_set_apart(struct coord *coord, struct job *job, uint64_t now_ns);
uint32_t pairs_apart(const struct coord *coord, uint64_t now_ns, struct route_apart out[APART_MAX]);

/* ---- job_route.c */
enum try_result { TRY_ASKED, TRY_NOBODY, TRY_LATER };
/* Chooses a pair and asks both; the job waits or is new. */
enum try_result job_try(struct coord *coord, struct job *job, uint64_t now_ns);

/* ---- job_reserve.c */
void job_ask(struct coord *coord, struct job *job, const struct route_record *route, uint64_t now_ns);
void jobs_reserved(struct coord *coord, uint32_t node, const Wire__Reserved *reserved, uint64_t now_ns);
void job_refused(struct coord *coord, struct job *job, uint32_t half, enum err e, uint64_t now_ns);
/* Tries the waiting jobs: those to be recovered, then each class in the order of fair.h. */
void jobs_pump(struct coord *coord, uint64_t now_ns);

/* ---- job_stream.c */
void jobs_tokens(struct coord *coord, uint32_t node, const Wire__Tokens *tokens, uint64_t now_ns);
void choice_end(struct coord *coord, struct job *job, uint32_t choice, Wire__Finish finish, bool tell, uint64_t now_ns);
void choice_drop_held(struct coord *coord, struct choice *choice);
/* No half is left that could give the next token of some choice. */
bool job_starved(const struct job *job);
bool choice_lacks_first(const struct choice *choice);

/* ---- job_scores.c: log-probabilities of the prompt */
void jobs_scores(struct coord *coord, uint32_t node, const Wire__PromptLogprobs *message, uint64_t now_ns);
/* Some are still to come: no token may be forwarded. */
bool request_lacks_scores(const struct request *request);

/* ---- job_end.c: JobEnd, accounting */
void jobs_job_end(struct coord *coord, uint32_t node, const Wire__JobEnd *end, uint64_t now_ns);
void record_start(struct coord *coord, struct job *job, uint64_t now_ns);
struct coord_attempt *record_of(const struct job *job); /* NULL: not listed */

/* ---- job_recover.c */
enum cause { CAUSE_SESSION, CAUSE_JOB_END, CAUSE_SILENCE, CAUSE_PROTOCOL, CAUSE_DRAINING };
void job_fail(struct coord *coord, struct job *job, uint32_t half, enum err e, enum cause cause, uint64_t now_ns);
void jobs_node_down(struct coord *coord, uint32_t node, uint64_t now_ns);
void jobs_tick(struct coord *coord, uint64_t now_ns);

/* ---- admission.c */
uint64_t admission_guess(const struct request *request); /* its cost, before it is known */
void admission_end(struct coord *coord, struct request *request);
struct request *admission_request(struct fair_item *item);
/* Until it begins, by what is ahead of it; 0: nothing is known. */
uint64_t admission_wait_ns(const struct coord *coord, const struct request *request);
/* It waits: may it?  Others may have been sent away for it. */
MUST_USE enum err admission_check(struct coord *coord, struct request *request, uint64_t now_ns, struct why *why,
				  uint64_t *ret_retry_after_ns);

/* ---- request.c */
bool error_is_final(enum err e);
/* Ends it now, unfinished: everything is cancelled. */
void request_fail(struct coord *coord, struct request *request, enum err e, const char *why, uint64_t now_ns);
/* Ends it when its choices are over and nothing is owed any more. */
void request_settle(struct coord *coord, struct request *request, uint64_t now_ns);
void request_end(struct coord *coord, struct request *request, uint64_t now_ns);
#endif
