/* exact - scalar functions whose bits are ours: libm's differ between versions, and law 1 spans nodes.
 *
 * Doubles, + - * / only, one order. Good to about 1e-15 relative: their f32 roundings are what any good
 * libm gives, and are the same on every machine, which is what counts. Pure. */
#ifndef BASE_EXACT_H
#define BASE_EXACT_H

double exact_log(double x); /* x > 0, normal */
double exact_exp(double x); /* |x| < 700 */
/* |x| < 2^20: the reduction by pi/2 is exact there. */
void exact_sincos(double x, double *ret_sin, double *ret_cos);
#endif
