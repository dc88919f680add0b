/* The engine node on a fake GPU: node/main.c, linked with the device of fake/, as tests/e2e/test_device.py starts it.
 * BATON_FAKE_NO_PEERS in its environment: the driver has no memory that neighbours can read. */
#include <stdlib.h>

#include "fake.h"

extern "C" int node_main(int argc, char **argv, char **environment);

int main(int argc, char **argv, char **environment)
{
	struct fake_options options = *fake_now();
	options.no_peers = getenv("BATON_FAKE_NO_PEERS") != nullptr;
	fake_configure(&options);
	return node_main(argc, argv, environment);
}
