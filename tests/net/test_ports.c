/* Ports found are held: nobody finds them again, and whoever is told of them can listen there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/ports.h"

enum { FOUND = 120 * PORTS_AT_ONCE_MAX }; /* without holding some ten of 120 rounds would overlap */

static int listener(uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static int by_number(const void *a, const void *b)
{
	return *(const uint16_t *)a - *(const uint16_t *)b;
}

static void what_is_held_is_not_found_again(void **state)
{
	uint16_t found[FOUND];
	struct rlimit limit;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max < FOUND + 64 ? limit.rlim_max : FOUND + 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	int count = 0;
	while (count < FOUND && count + 64 < (int)limit.rlim_cur) {
		assert_int_equal(ports_find(found + count, PORTS_AT_ONCE_MAX), ERR_OK);
		count += PORTS_AT_ONCE_MAX;
	}
	qsort(found, (size_t)count, sizeof(found[0]), by_number);
	for (int i = 1; i < count; i++)
		assert_int_not_equal(found[i - 1], found[i]);
}

static int is_free_to_the_script(uint16_t port)
{
	char line[512];
	int is_free = -1;
	snprintf(line, sizeof(line), "PYTHONPATH='%s' python3 -c 'import free_port; print(int(free_port._is_free(%u)))'", TOOLS, port);
	FILE *out = popen(line, "r");
	assert_non_null(out);
	assert_int_equal(fscanf(out, "%d", &is_free), 1);
	assert_int_equal(pclose(out), 0);
	return is_free;
}

static void the_script_does_not_find_what_we_hold(void **state)
{
	uint16_t port;
	assert_int_equal(ports_find(&port, 1), ERR_OK);
	assert_int_equal(is_free_to_the_script(port), 0);
}

/* `baton up --port P` looks for two more, for etcd. */
static void what_was_checked_is_held(void **state)
{
	struct sockaddr_in address;
	socklen_t length = sizeof(address);
	struct why why;
	int fd = listener(0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	close(fd);
	uint16_t port = ntohs(address.sin_port);
	assert_int_equal(is_free_to_the_script(port), 1);
	assert_int_equal(ports_check(port, 1, &why), ERR_OK);
	assert_int_equal(is_free_to_the_script(port), 0);
}

static void a_port_that_another_holds_for_us_can_be_listened_at(void **state)
{
	uint16_t port;
	struct why why;
	assert_int_equal(ports_find(&port, 1), ERR_OK);
	assert_int_equal(ports_check(port, 1, &why), ERR_OK);
	int fd = listener(port);
	char expected[80];
	snprintf(expected, sizeof(expected), "port %u is in use; choose another with --port", port);
	assert_int_equal(ports_check(port, 1, &why), ERR_BUSY);
	assert_string_equal(why.text, expected);
	close(fd);
}

static void no_more_than_at_once(void **state)
{
	uint16_t found[PORTS_AT_ONCE_MAX + 1];
	assert_int_equal(ports_find(found, PORTS_AT_ONCE_MAX + 1), ERR_BUSY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_port_that_another_holds_for_us_can_be_listened_at),
		cmocka_unit_test(no_more_than_at_once),
		cmocka_unit_test(the_script_does_not_find_what_we_hold),
		cmocka_unit_test(what_was_checked_is_held),
		cmocka_unit_test(what_is_held_is_not_found_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
