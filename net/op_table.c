#include "net/op_table.h"

#include <stdlib.h>

#include "base/rng.h"

enum { HEADS_MIN = 64, HEADS_MAX = 1 << 20 };

enum err op_table_init(struct op_table *table, uint32_t count_max)
{
	uint32_t heads = HEADS_MIN;
	while (heads < count_max && heads < HEADS_MAX)
		heads *= 2;
	table->mask = heads - 1;
	table->heads = calloc(heads, sizeof(*table->heads));
	return table->heads ? ERR_OK : ERR_NOMEM;
}

void op_table_fini(struct op_table *table)
{
	free(table->heads);
	*table = (struct op_table){0};
}

void op_table_add(struct op_table *table, struct op_entry *entry)
{
	struct op_entry **head = &table->heads[rng_mix(entry->op) & table->mask];
	entry->next = *head;
	entry->link = head;
	if (entry->next)
		entry->next->link = &entry->next;
	*head = entry;
}

void op_table_remove(struct op_entry *entry)
{
	*entry->link = entry->next;
	if (entry->next)
		entry->next->link = entry->link;
}

struct op_entry *op_table_find(const struct op_table *table, uint64_t op, uint32_t *ret_steps)
{
	uint32_t steps = 0;
	struct op_entry *entry = table->heads[rng_mix(op) & table->mask];
	for (; entry; entry = entry->next) {
		steps++;
		if (entry->op == op)
			break;
	}
	if (ret_steps)
		*ret_steps = steps;
	return entry;
}

struct op_entry *op_table_any(const struct op_table *table, uint32_t *from)
{
	for (; table->heads && *from <= table->mask; ++*from)
		if (table->heads[*from])
			return table->heads[*from];
	return NULL;
}
