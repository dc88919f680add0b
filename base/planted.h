/* planted - bugs that others shipped, kept at the places where they would be, to prove that the simulator finds them.
 *
 * A pure core asks `planted(NAME)` where it would go wrong.  In what we build and ship this is the constant false: neither
 * a branch nor a name is left (tests/house/check_planted.py looks).  The pure cores are compiled a second time with
 * -DBATON_PLANTED for build/tests/sim/simcluster-planted, which switches one bug on and counts the seeds until an
 * invariant or a token tells (tests/sim/README.md).
 *
 * A bug is one line here and a `planted()` at its place, with as little code that only it needs as can be. */
#ifndef BASE_PLANTED_H
#define BASE_PLANTED_H
#include <stdbool.h>

/* Name, what goes wrong, where it was seen. */
#define PLANTED_BUGS(X) \
	X(SESSION_SHORTER_THAN_QUEUE, "prefill gives blocks back after a while although decode has not read them", \
	  "aws-samples/aws-do-eks#84, vllm#21570") \
	X(STATUS_DROPPED, "the status of a failed read is not looked at", "dynamo#15079") \
	X(LATE_ANNOUNCEMENT_USED, "an announcement of an attempt that is over is taken for the running one", \
	  "vllm#44238, kvcache-ai/vllm#3") \
	X(LANDING_REUSED, "a landing goes back to the pool while a read of it is out", "vllm#32255") \
	X(GENERATION_NOT_CHECKED, "the link does not compare the generation of what it reads", \
	  "aws-samples/aws-do-eks#84") \
	X(GENERATION_NOT_GROWN, "a block that is given anew keeps its generation", "aws-samples/aws-do-eks#84") \
	X(DIGEST_NOT_CHECKED, "the digest of what landed is not compared", "vllm#44238, LMCache#4467") \
	X(KEY_TRUNCATED, "keys of blocks keep two bytes of their hash", "CVE-2025-25183") \
	X(PARENT_NOT_IN_KEY, "the key of a block does not say what stands before it", "a rule of ours") \
	X(OLDER_ATTEMPT_ACCEPTED, "the coordinator takes what an earlier attempt says for the running one's", \
	  "a rule of ours") \
	X(POSITION_NOT_CHECKED, "a token is forwarded whatever its position", "a rule of ours") \
	X(REPEATED_TOKEN_FORWARDED, "a token of a position that was forwarded is forwarded again", \
	  "a rule of ours, missed by a mutation run") \
	X(RECLAIM_NEVER, "what is held for a peer is not freed when its session ends", "vllm#46283") \
	X(ABORT_NOT_TOLD, "the coordinator gives a half up and does not tell it", "sglang#30233, llm-d#2433") \
	X(PREFILL_ABORT_NOT_TOLD, "prefill aborts and does not tell decode", "sglang#30233") \
	X(INDEX_OVER_LEDGER, "a node's index of keys still names a block that was given away", "dynamo#15079") \
	X(EVICTED_KEY_KEPT, "a store's index of keys still names a block that was evicted", "dynamo#15079") \
	X(TWO_COORDINATORS_LEADING, "a leader goes on when its lease is over, and another one leads", \
	  "Jepsen etcd 3.4.3: locks") \
	X(EPOCH_NOT_CHECKED, "a node obeys directives of a term that is over", \
	  "Jepsen etcd 3.4.3: locks without fencing") \
	X(PARTIAL_BLOCK_DIGEST_IGNORED, "the digest of a last block that is not full is not compared", \
	  "Mooncake: checksums off by default") \
	X(GROUP_NOT_IN_KEY, "blocks of two layer groups with the same tokens have the same key", "a rule of ours") \
	X(WINDOW_RELEASED_EARLY, "a block that the window of the next token still touches is given back", "a rule of ours") \
	X(WINDOW_NOT_LOOKED_UP, "a beginning is taken for cached although blocks that its window touches are not there", \
	  "a rule of ours") \
	X(SKIPPED_BLOCKS_KEPT, "a job that goes over blocks which are here keeps those that it had taken to compute them into", \
	  "a rule of ours") \
	X(TENANT_SALT_LEFT_OUT, "the tenant's salt is not in the key", "CVE-2025-46570") \
	X(OLDER_INCARNATION_ACCEPTED, "a process that was replaced may say Hello", \
	  "Mooncake: zombie put; missed by a mutation run") \
	X(PROMPT_COUNT_WRONG, "after a recovery decode takes the whole context for the prompt", \
	  "missed by a mutation run") \
	X(INCOMPLETE_TRANSFER_USED, "decode begins before every block is there", "sglang#30233") \
	X(CHOICE_NUMBER_LOST, "a recovered choice draws the random numbers of the first one", "a rule of ours") \
	X(PARTIAL_BLOCK_NOT_COPIED, "further choices do not get the tokens of the shared last block", \
	  "a rule of ours") \
	X(WHOLE_CONTEXT_REUSED, "all of a cached prompt is reused and nothing is left to compute", "a rule of ours") \
	X(RESERVATION_STRANDED, "blocks reserved for a job that never started are not given back", "vllm#41269") \
	X(PLANNED_FREED, "a job that the running step names is freed", "a rule of ours") \
	X(JOB_ACCEPTED_TWICE, "a job that is there already is accepted again", "sglang#40125") \
	X(HELD_WITHOUT_REFERENCE, "blocks found for a reader may be evicted before it has read them", "vllm#21570") \
	X(LATE_ANSWER_NOT_RELEASED, "what an answer that came too late holds is not released", "vllm#46283") \
	X(SLOT_NOT_QUARANTINED, "a store reuses a slot while an abandoned read may still write into it", "vllm#32255") \
	X(FAILED_OFFER_NOT_ANSWERED, "a store does not say that its read of an offered block failed", "vllm#50754") \
	X(STORE_DIGEST_NOT_CHECKED, "a store seals what it read without comparing the digest", \
	  "Mooncake: checksums off by default") \
	X(QUOTA_NOT_CHECKED, "a tenant's blocks are taken beyond its quota", "a rule of ours") \
	X(QUOTA_NOT_GIVEN_BACK, "what a tenant was charged with is not given back at eviction", "Mooncake: quota leaks") \
	X(PIN_IGNORED_BY_SLAB, "a slab that changes its class takes pinned blocks with it", "a rule of ours") \
	X(LOAN_IGNORED_BY_SLAB, "a slab that changes its class takes blocks with it that another store reads", \
	  "vllm#21570") \
	X(PIN_LOST_AT_RELEASE, "a pinned block that was held may be evicted from then on", "LMCache#1034") \
	X(PINS_NOT_BOUNDED, "more is pinned than may be", "LMCache#1034") \
	X(LOOK_FORGETS_A_BLOCK, "a store that looks for missing copies passes over some blocks", "a rule of ours") \
	X(JOINED_STORE_NOT_TOLD, "blocks are not looked at when a store joins", "a rule of ours") \
	X(COPY_COUNT_LOST, "a copy that failed counts as made", "Mooncake: replication is best effort") \
	X(COPY_RETURNED_EARLY, "a block that another store reads may be evicted before it has said so", "vllm#21570") \
	X(LENT_BLOCK_EVICTED, "the eviction policy's victim is evicted although it is lent", "vllm#21570") \
	X(LOAN_RETURNED_TWICE, "what was lent to a store is returned twice when its session ends", "vllm#46283") \
	X(LEAVES_WITH_THE_ONLY_COPY, "a store that drains leaves before it has handed over what only it has", \
	  "dynamo#13559") \
	X(DISK_DIGEST_NOT_CHECKED, "a block that comes back from a disk is not compared with its digests", \
	  "Mooncake: checksums off by default") \
	X(DISK_TORN_FOOTER_ACCEPTED, "the footer of a segment is believed although it does not have its sum", \
	  "a rule of ours") \
	X(DISK_EVICTION_NOT_NOTED, "that a block was evicted from a disk is not written there", \
	  "a rule of ours") \
	X(DISK_COPIES_FORGOTTEN, "what is on disk only is not copied when another store is lost", \
	  "a rule of ours") \
	X(DISK_DURABLE_BEFORE_SYNC, "a block is said to be durable when it is written", \
	  "a rule of ours") \
	X(REFUSED_LINK_CHOSEN, "a pair of nodes is asked although one has said that the other is out of its reach", "a rule of ours") \
	X(HANG_NOT_DETECTED, "a silent peer is never given up", "UCX: 20 s of silence, sglang#10110")

#ifdef BATON_PLANTED
enum planted_bug {
#define X(name, text, report) PLANTED_##name,
	PLANTED_BUGS(X)
#undef X
	PLANTED_BUG_COUNT
};
/* Is this bug switched on?  The test program answers (tests/sim/planted.c). */
bool planted_now(enum planted_bug bug);
#define planted(bug) planted_now(PLANTED_##bug)
#else
#define planted(bug) false
#endif
#endif
