/* log - one line per event on standard error, for people or as JSON lines.
 *
 * The only process-wide state of the project: who speaks and how loud, set once by main().
 * Lines begin with who and which: "decode 2 > request 7: pull from prefill 1 failed: connection lost".
 * Expected outcomes (AGAIN, NOT_FOUND, CANCELED) are counted, not logged.  Any thread. */
#ifndef BASE_LOG_H
#define BASE_LOG_H
#include <stdbool.h>

#ifdef __cplusplus /* kernels/cuda/ speaks too */
extern "C" {
#endif

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* who: "prefill 1"; copied, 63 bytes. */
void log_init(const char *who, enum log_level level, bool json);
bool log_enabled(enum log_level level);
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)

#ifdef __cplusplus
}
#endif
#endif
