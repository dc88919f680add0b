#include "coordinator/store_view.h"

#include <stddef.h>

/* What is told of copies, in the order in which it is shown. */
static const struct {
	const char *json, *metric, *type, *help;
	size_t offset; /* of a uint64_t in coord_replica */
} rows[] = {
#define ROW(field, metric, type, help) {#field, metric, type, help, offsetof(struct coord_replica, field)}
	ROW(missing, "baton_kv_copies_missing", "gauge", "Blocks not known to have all their copies, which this store is to copy."),
	ROW(lag_blocks, "baton_kv_copy_lag_blocks", "gauge", "Blocks that no other store has read yet."),
	ROW(lag_bytes, "baton_kv_copy_lag_bytes", "gauge", "Their bytes."),
	ROW(in_flight, "baton_kv_copies_in_flight", "gauge", "Blocks that other stores are being offered."),
	ROW(spare, "baton_kv_spare_blocks", "gauge", "Blocks kept beyond their copies: the first to go."),
	ROW(copies, "baton_kv_copies_total", "counter", "Copies that other stores took."),
	ROW(copied_bytes, "baton_kv_copied_bytes_total", "counter", "Their bytes."),
	ROW(moved_bytes, "baton_kv_moved_bytes_total", "counter", "Of these, because stores came or went."),
	ROW(given_up, "baton_kv_copies_given_up_total", "counter", "Blocks that could not be copied, until they are looked at again."),
#undef ROW
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static uint64_t value_of(const struct coord_node *node, int row)
{
	return *(const uint64_t *)((const char *)&node->replica + rows[row].offset);
}

void store_view_json(struct json_out *out, const struct coord_node *node)
{
	if (node->role != WIRE__ROLE__ROLE_KVSTORE)
		return;
	json_put_open(out, "replica", '{');
	for (int row = 0; row < ROWS; row++)
		json_put_unsigned(out, rows[row].json, value_of(node, row));
	json_out_close(out, '}');
}

void store_view_metrics(struct metrics_text *text, const struct coord_node *nodes, uint32_t count)
{
	for (int row = 0; row < ROWS; row++) {
		metrics_family(text, rows[row].metric, rows[row].type, rows[row].help);
		for (uint32_t i = 0; i < count; i++) {
			const char *labels[] = {"node", nodes[i].name, NULL};
			if (nodes[i].role == WIRE__ROLE__ROLE_KVSTORE)
				metrics_line(text, labels, (double)value_of(&nodes[i], row));
		}
	}
}
