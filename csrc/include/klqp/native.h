/* klqp/native.h: the C interface of a log density. Plain C99; stable.
 *
 * Hand a function of this type to klqp.fit() or klqp.LogDensity() and a whole run is one call into C++ that never
 * touches Python. docs/native.md shows how, from C, Cython, numba, cffi and ctypes.
 */
#ifndef KLQP_NATIVE_H
#define KLQP_NATIVE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Log density at n points of d coordinates, and its gradient.
 *
 *   z     (n, d), row-major, read only
 *   logp  (n), to be written; -inf says that the point is outside the support
 *   grad  (n, d), to be written when order is 1, NULL when order is 0
 *
 * Outputs are filled with NaN before each call: a row left alone counts as a rejected draw. Returns 0 when done,
 * > 0 when rows that could not be computed were left non-finite, < 0 to stop the run. Must not throw and must not
 * touch Python. klqp calls it from one thread at a time unless it is declared reentrant.
 */
typedef int (*klqp_logdensity_fn)(int64_t n, int64_t d, int64_t order, const double* z, double* logp, double* grad,
                                  void* user_data);

/* The same, one point at a time and always with the gradient: the form used by some samplers. */
typedef int (*klqp_pointwise_fn)(int64_t d, const double* z, double* grad, double* logp, void* user_data);

/* Flags of klqp_logdensity_v1. */
#define KLQP_REENTRANT 1u /* may be called from several threads at once, each with its own rows */
#define KLQP_POINTWISE 2u /* `fn` is a klqp_pointwise_fn */

/* What a PyCapsule named KLQP_CAPSULE_NAME points to. Whoever makes the capsule keeps `fn` and `user_data` alive as
 * long as the capsule lives; klqp keeps the capsule. */
typedef struct klqp_logdensity_v1 {
  void* fn; /* klqp_logdensity_fn, or klqp_pointwise_fn with KLQP_POINTWISE */
  void* user_data;
  uint32_t flags;
} klqp_logdensity_v1;

#define KLQP_CAPSULE_NAME "klqp.logdensity.v1"

#ifdef __cplusplus
}
#endif

#endif /* KLQP_NATIVE_H */
