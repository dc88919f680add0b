/* What a job cost, and how it ended: told to its coordinator. */
#include "prefill/job.h"

Wire__Accounting prefill_account(const struct prefill *p, const struct prefill_job *job)
{
	Wire__Accounting accounting = WIRE__ACCOUNTING__INIT;
	accounting.context = job->sequence.token_count;
	accounting.reused = job->reused;
	accounting.fetched = job->fetched;
	uint32_t here = accounting.reused + accounting.fetched;
	accounting.computed = job->sequence.computed > here ? job->sequence.computed - here : 0;
	accounting.blocks_read = job->counts.blocks_read;
	accounting.bytes_read = job->counts.bytes_read;
	accounting.miss_not_found = job->counts.miss_not_found;
	accounting.miss_deadline = job->counts.miss_deadline;
	accounting.miss_digest = job->counts.miss_digest;
	accounting.miss_generation = job->counts.miss_generation;
	accounting.miss_gone = job->counts.miss_gone;
	accounting.queue_ns = job->started_ns - job->reserved_ns;
	accounting.fetch_ns = job->computing_ns > job->started_ns ? job->computing_ns - job->started_ns : 0;
	accounting.compute_ns = job->done_ns > job->computing_ns ? job->done_ns - job->computing_ns : 0;
	return accounting;
}

void prefill_send_job_end(struct prefill *p, struct prefill_job *job, enum err e)
{
	if (job->coordinator == PEER_NONE || job->local)
		return; /* rule 1; a local job's one end is said by decode */
	Wire__Accounting accounting = prefill_account(p, job);
	Wire__JobId id = job_key_wire(&job->key);
	Wire__JobEnd end = WIRE__JOB_END__INIT;
	end.job = &id;
	end.half = WIRE__HALF__HALF_PREFILL;
	end.error = e;
	end.why = (char *)err_text(e);
	end.accounting = &accounting;
	PROTO_ENVELOPE(envelope, JOB_END, job_end, &end);
	sessions_send(p->local->sessions, job->coordinator, &envelope);
}
