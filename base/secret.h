/* secret - files that hold a key.  Any thread. */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

/* Says in the log when others than the owner may read it: whoever mounts it may have no choice. */
void secret_warn_of_mode(const char *path);
#endif
