#include "coordinator/trace.h"

#include "coordinator/json_out.h"

static void put_ms(struct json_out *out, const char *key, uint64_t ns)
{
	json_out_key(out, key);
	json_out_fixed(out, (double)ns / 1e6, 3);
}

/* Since the attempt's start; null: it did not happen. */
static void put_moment(struct json_out *out, const char *key, uint64_t at_ns, uint64_t started_ns)
{
	if (at_ns)
		put_ms(out, key, at_ns - started_ns);
	else
		json_put_null(out, key);
}

static void put_misses(struct json_out *out, const struct coord_accounting *a)
{
	json_put_open(out, "misses", '{');
	json_put_unsigned(out, "not_found", a->miss_not_found);
	json_put_unsigned(out, "deadline", a->miss_deadline);
	json_put_unsigned(out, "digest", a->miss_digest);
	json_put_unsigned(out, "generation", a->miss_generation);
	json_put_unsigned(out, "gone", a->miss_gone);
	json_out_close(out, '}');
}

static void put_accounting(struct json_out *out, const struct coord_accounting *a)
{
	json_put_unsigned(out, "context", a->context);
	json_put_unsigned(out, "computed", a->computed);
	json_put_unsigned(out, "reused", a->reused);
	json_put_unsigned(out, "fetched", a->fetched);
	json_put_unsigned(out, "transferred", a->transferred);
	json_put_unsigned(out, "blocks_read", a->blocks_read);
	json_put_unsigned(out, "bytes_read", a->bytes_read);
	put_misses(out, a);
	json_put_text(out, "transport", a->transport);
	put_ms(out, "queue_ms", a->queue_ns);
	put_ms(out, "fetch_ms", a->fetch_ns);
	put_ms(out, "compute_ms", a->compute_ns);
	put_ms(out, "transfer_ms", a->transfer_ns);
}

static void put_half(struct json_out *out, const char *key, const char *name, bool ended,
		     const struct coord_accounting *accounting)
{
	json_put_open(out, key, '{');
	json_put_text(out, "name", name);
	json_put_bool(out, "ended", ended); /* false: the numbers did not come */
	put_accounting(out, accounting);
	json_out_close(out, '}');
}

static void put_attempt(struct json_out *out, const struct coord_attempt *a)
{
	json_out_open(out, '{');
	json_put_unsigned(out, "job", a->job);
	json_put_unsigned(out, "attempt", a->attempt);
	json_put_unsigned(out, "choices", a->choices);
	json_put_unsigned(out, "context", a->context);
	json_put_bool(out, "both_halves", a->both_halves);
	put_half(out, "prefill", a->prefill_name, a->prefill_ended, &a->prefill);
	put_half(out, "decode", a->decode_name, a->decode_ended, &a->decode); /* nothing, where one node did both halves */
	json_put_text(out, "failed", a->failed == ERR_OK ? NULL : err_name(a->failed));
	if (a->failed != ERR_OK)
		json_put_text(out, "failed_at", a->failed_at_decode ? "decode" : "prefill");
	put_moment(out, "first_token_ms", a->first_token_ns, a->started_ns);
	put_moment(out, "decode_token_ms", a->decode_token_ns, a->started_ns);
	put_moment(out, "total_ms", a->ended_ns, a->started_ns);
	json_out_close(out, '}');
}

static void put_timings(struct json_out *out, const struct coord_timings *t)
{
	json_put_open(out, "timings", '{');
	put_ms(out, "queue_ms", t->queue_ns);
	put_ms(out, "reserve_ms", t->reserve_ns);
	put_ms(out, "prefill_ms", t->prefill_ns);
	put_ms(out, "transfer_ms", t->transfer_ns);
	put_ms(out, "first_token_ms", t->first_token_ns);
	put_ms(out, "total_ms", t->total_ns);
	json_out_close(out, '}');
}

enum err trace_append(const struct coord_outcome *o, struct buf *buf)
{
	struct json_out out;
	json_out_init(&out, buf);
	json_out_open(&out, '{');
	json_put_unsigned(&out, "attempts_started", o->attempts); /* may be more than are listed */
	json_put_unsigned(&out, "recoveries", o->recoveries);
	json_put_unsigned(&out, "cached_tokens", o->cached_tokens);
	put_timings(&out, &o->timings);
	/* Sums over all attempts, those not listed included. */
	json_put_open(&out, "prefill", '{');
	put_accounting(&out, &o->prefill);
	json_out_close(&out, '}');
	json_put_open(&out, "decode", '{');
	put_accounting(&out, &o->decode);
	json_out_close(&out, '}');
	json_put_open(&out, "attempts", '[');
	for (uint32_t i = 0; i < o->attempts_listed; i++)
		put_attempt(&out, &o->attempt[i]);
	json_out_close(&out, ']');
	json_out_close(&out, '}');
	return out.e;
}
