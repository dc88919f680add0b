/* layer_groups - how many layer groups a model has at most.
 *
 * A layer group is layers with the same kind of attention: those whose tokens see all before them, or those with a window.
 * Each has KV blocks, keys and tables of its own, so whoever describes, computes, counts, moves or chooses by them has that
 * many; and whoever hears of them from others takes no more.  A third kind is this number, and docs/decisions/ to say why. */
#ifndef BASE_LAYER_GROUPS_H
#define BASE_LAYER_GROUPS_H

enum { LAYER_GROUPS_MAX = 2 };

#endif
