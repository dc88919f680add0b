/* Any bytes as config.json. */
#include "model/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct why why;
	struct model_config config;
	enum err e = model_config_parse((const char *)data, length, NULL, 0, &why, &config);
	(void)e;
	return 0;
}
