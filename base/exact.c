#include "base/exact.h"

#include "base/exact_inline.h"

double exact_log(double x)
{
	return exact_log_inline(x);
}

double exact_exp(double x)
{
	return exact_exp_inline(x);
}

void exact_sincos(double x, double *ret_sin, double *ret_cos)
{
	exact_sincos_inline(x, ret_sin, ret_cos);
}
