/* The files of TLS: renewed while they are in use, and of no use at all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls_rig.h"

static void renewed_certificates_are_used_without_a_restart(void **state)
{
	struct rig rig;
	rig_open(&rig);
	make_node(directory, (struct certs_node){.role = "coordinator", .name = "renewed", .begin_s = -2 * HOUR, .end_s = -HOUR});
	struct tls *tls = tls_open(directory, directory, "renewed", "test");
	rig_dial(&rig, tls);
	expect_refused(&rig, REFUSAL_EXPIRED);
	WAIT_FOR(&rig, rig.client_closed == 1);
	make_node(directory, (struct certs_node){.role = "coordinator", .name = "renewed"});
	rig_dial(&rig, tls);
	WAIT_FOR(&rig, rig.frames == 1);
	rig_close(&rig);
	tls_destroy(tls);
}

/* A key without its certificate, or the certificate of another: what was good stays in use. */
static void half_of_a_renewal_changes_nothing(void **state)
{
	char command[512];
	struct rig rig;
	rig_open(&rig);
	make_node(directory, (struct certs_node){.role = "coordinator", .name = "half"});
	struct tls *tls = tls_open(directory, directory, "half", "test");
	snprintf(command, sizeof(command), "cd %s && cp kvstore-1.key half.key", directory);
	assert_int_equal(system(command), 0);
	rig_dial(&rig, tls);
	WAIT_FOR(&rig, rig.frames == 1);
	stream_close(rig.client);
	snprintf(command, sizeof(command), "cd %s && cp kvstore-1.pem half.pem", directory);
	assert_int_equal(system(command), 0);
	rig_dial(&rig, tls);
	WAIT_FOR(&rig, rig.frames == 2);
	rig_close(&rig);
	tls_destroy(tls);
}

static void expect_no_tls(struct tls_options options, const char *reason)
{
	struct tls *tls = NULL;
	struct why why = {0};
	assert_int_not_equal(tls_create(&options, &tls, &why), ERR_OK);
	if (!strstr(why.text, reason))
		fail_msg("\"%s\" does not say \"%s\"", why.text, reason);
}

static void files_that_are_of_no_use_are_named(void **state)
{
	char ca[96], certificate[96], key[96], other[96], encrypted[96], command[512];
	snprintf(ca, sizeof(ca), "%s/ca.pem", directory);
	snprintf(certificate, sizeof(certificate), "%s/prefill-1.pem", directory);
	snprintf(key, sizeof(key), "%s/prefill-1.key", directory);
	snprintf(other, sizeof(other), "%s/kvstore-1.key", directory);
	snprintf(encrypted, sizeof(encrypted), "%s/encrypted.key", directory);
	snprintf(command, sizeof(command), "openssl ec -in %s -aes256 -passout pass:x -out %s 2>/dev/null", key, encrypted);
	assert_int_equal(system(command), 0);
	expect_no_tls((struct tls_options){ca, certificate, "/nonexistent/key.pem", "test"},
		      "/nonexistent/key.pem: No such file or directory");
	expect_no_tls((struct tls_options){ca, certificate, ca, "test"}, "ca.pem: no usable PEM");
	expect_no_tls((struct tls_options){ca, key, key, "test"}, "prefill-1.key: no usable PEM");
	expect_no_tls((struct tls_options){key, certificate, key, "test"}, "prefill-1.key: no usable PEM");
	expect_no_tls((struct tls_options){ca, certificate, other, "test"}, "kvstore-1.key: no usable PEM");
	expect_no_tls((struct tls_options){ca, certificate, encrypted, "test"}, "encrypted.key: no usable PEM");
	expect_no_tls((struct tls_options){"/dev/zero", certificate, key, "test"}, "expected a PEM file");
	expect_no_tls((struct tls_options){ca, certificate, key, "elsewhere"}, "is of cluster \"test\"");
	make_node(directory, (struct certs_node){.name = "nobody", .uri = ""});
	snprintf(certificate, sizeof(certificate), "%s/nobody.pem", directory);
	snprintf(key, sizeof(key), "%s/nobody.key", directory);
	expect_no_tls((struct tls_options){ca, certificate, key, "test"}, "0 URIs");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(renewed_certificates_are_used_without_a_restart),
		cmocka_unit_test(half_of_a_renewal_changes_nothing),
		cmocka_unit_test(files_that_are_of_no_use_are_named),
	};
	return cmocka_run_group_tests_name("tls_files", tests, make_all, remove_all);
}
