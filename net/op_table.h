/* op_table - what is under way, found by the number (op) that its core gave it.
 *
 * Owns:   the heads of its lists.  Entries are their owner's: embed one, and keep it in place while it is in.
 * Loop:   that of its owner.
 * Bounds: any number of entries; a look at an op takes a few steps while they are not many more than count_max.  Whatever way
 *         cores number: ops are mixed (low bits alone tell a slot or a layer). */
#ifndef NET_OP_TABLE_H
#define NET_OP_TABLE_H
#include <stdint.h>
#include "base/err.h"

struct op_entry {
	uint64_t op;
	struct op_entry *next, **link;
};

struct op_table {
	struct op_entry **heads; /* [mask + 1] */
	uint32_t mask;
};

/* ERR_NOMEM. */
MUST_USE enum err op_table_init(struct op_table *table, uint32_t count_max);
/* Of a table that was never begun too; entries still in it are forgotten. */
void op_table_fini(struct op_table *table);
/* entry->op is set, and no other entry has it. */
void op_table_add(struct op_table *table, struct op_entry *entry);
void op_table_remove(struct op_entry *entry);
/* NULL: none.  *ret_steps, where it is not NULL, is how many entries were looked at. */
struct op_entry *op_table_find(const struct op_table *table, uint64_t op, uint32_t *ret_steps);
/* Some entry, to be removed before the next call; NULL: none is left.  *from begins at 0. */
struct op_entry *op_table_any(const struct op_table *table, uint32_t *from);
#endif
