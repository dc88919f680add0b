/* etcd_server - a real etcd on loopback for a test: its own directory, free ports, stopped by its pid.
 *
 * A test that needs one gives the path of the binary; etcd_server_binary() finds Debian's.  The kernel kills the
 * server when the test dies. */
#ifndef TESTS_NET_ETCD_SERVER_H
#define TESTS_NET_ETCD_SERVER_H
#include <stdint.h>

struct etcd_server;

/* "/usr/bin/etcd"; NULL: not installed. */
const char *etcd_server_binary(void);
/* Starts and waits until it serves; NULL when it did not within 20 s (its log is then printed). */
struct etcd_server *etcd_server_start(const char *binary);
/* The same with further arguments of etcd, ended by NULL; tls: clients come by https.  All are copied. */
struct etcd_server *etcd_server_start_with(const char *binary, const char *const *arguments, int tls);
/* Three members of one cluster; 0 when all serve. */
int etcd_server_start_three(const char *binary, struct etcd_server *ret_servers[3]);
/* "http://127.0.0.1:PORT" */
const char *etcd_server_url(const struct etcd_server *server);
/* kill -9; the directory stays. */
void etcd_server_kill(struct etcd_server *server);
/* Again after a kill: same directory and ports.  0 when it serves. */
int etcd_server_restart(struct etcd_server *server);
/* SIGSTOP, SIGCONT. */
void etcd_server_pause(struct etcd_server *server);
void etcd_server_resume(struct etcd_server *server);
/* Empties the directory of a killed server: the next start is a new store. */
void etcd_server_wipe(struct etcd_server *server);
/* Kills it if it runs and removes the directory.  NULL is fine. */
void etcd_server_stop(struct etcd_server *server);
#endif
