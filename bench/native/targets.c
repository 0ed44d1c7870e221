/* The log densities of targets.py as a user would write them in C, and a loop to time them by themselves. */
#include <math.h>
#include <stdint.h>

#include "klqp/native.h"

typedef struct {
  const double *mean, *precision;
} gaussian_data;

int gaussian(int64_t n, int64_t d, int64_t order, const double *z, double *logp, double *grad, void *user_data) {
  const gaussian_data *data = user_data;
  for (int64_t s = 0; s < n; ++s) {
    double total = 0.0;
    for (int64_t i = 0; i < d; ++i) {
      const double residual = z[s * d + i] - data->mean[i];
      const double slope = -data->precision[i] * residual;
      total += residual * slope;
      if (order) grad[s * d + i] = slope;
    }
    logp[s] = 0.5 * total;
  }
  return 0;
}

typedef struct {
  int64_t n;
  const double *x, *y;
} logistic_data;

/* One pass over the rows of x serves all draws. */
int logistic(int64_t n, int64_t d, int64_t order, const double *z, double *logp, double *grad, void *user_data) {
  const logistic_data *data = user_data;
  for (int64_t s = 0; s < n; ++s) {
    logp[s] = 0.0;
    for (int64_t i = 0; i < d; ++i) {
      logp[s] -= 0.5 * z[s * d + i] * z[s * d + i];
      if (order) grad[s * d + i] = -z[s * d + i];
    }
  }
  for (int64_t row = 0; row < data->n; ++row) {
    const double *x = data->x + row * d;
    for (int64_t s = 0; s < n; ++s) {
      double eta = 0.0;
      for (int64_t i = 0; i < d; ++i) eta += x[i] * z[s * d + i];
      const double decay = exp(-fabs(eta));
      logp[s] += data->y[row] * eta - (eta > 0.0 ? eta : 0.0) - log1p(decay);
      if (order) {
        const double residual = data->y[row] - (eta >= 0.0 ? 1.0 : decay) / (1.0 + decay);
        for (int64_t i = 0; i < d; ++i) grad[s * d + i] += residual * x[i];
      }
    }
  }
  return 0;
}

void repeat(klqp_logdensity_fn fn, int64_t times, int64_t n, int64_t d, const double *z, double *logp, double *grad,
            void *user_data) {
  for (int64_t k = 0; k < times; ++k) fn(n, d, 1, z, logp, grad, user_data);
}
