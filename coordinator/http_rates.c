/* What is left of a tenant's quota, as OpenAI's headers say it. */
#include <stdio.h>

#include "coordinator/http_api_impl.h"

/* "6m0s", "1s", "20ms" */
static void print_time(uint64_t ns, char text[24])
{
	uint64_t ms = (ns + 999999) / 1000000, s = (ms + 999) / 1000;
	if (ms < 1000)
		snprintf(text, 24, "%llums", (unsigned long long)ms);
	else if (s < 60)
		snprintf(text, 24, "%llus", (unsigned long long)s);
	else
		snprintf(text, 24, "%llum%llus", (unsigned long long)(s / 60), (unsigned long long)(s % 60));
}

static int add(struct http_rate_fields *rates, int count, int kind, uint32_t limit, uint32_t left, uint64_t full_in_ns)
{
	static const char *const names[2][3] = {
		{"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"},
		{"x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"},
	};
	if (!limit)
		return count;
	snprintf(rates->texts[count], sizeof(rates->texts[0]), "%u", limit);
	snprintf(rates->texts[count + 1], sizeof(rates->texts[0]), "%u", left);
	print_time(full_in_ns, rates->texts[count + 2]);
	for (int i = 0; i < 3; i++)
		rates->fields[count + i] = (struct http_field){names[kind][i], rates->texts[count + i]};
	return count + 3;
}

const struct http_field *http_api_rates(const struct http_api *api, const char *tenant, struct http_rate_fields *rates)
{
	struct service_rates r;
	int count = 0;
	if (service_rates(api->options.service, tenant, &r)) {
		count = add(rates, count, 0, r.requests, r.requests_left, r.requests_full_in_ns);
		count = add(rates, count, 1, r.tokens, r.tokens_left, r.tokens_full_in_ns);
	}
	rates->fields[count] = (struct http_field){NULL, NULL};
	return rates->fields;
}
