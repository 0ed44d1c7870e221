// Bernoulli and geometric draws, vectorised, and the table of all samplers.
#include "model/samplers/registry.hpp"

#include <algorithm>
#include <cmath>

#include "core/limits.hpp"
#include "kernels/kernels.hpp"
#include "model/samplers/counts.hpp"

namespace klqp {
namespace {

constexpr Index kTile = 256;

// Calls body(begin, m, x) for tiles of an argument, x (m) its values.
template <class Body>
void for_tiles(Index n, Column column, const Body& body) noexcept {
  double spread[kTile];
  if (column.step == 0) std::fill_n(spread, std::min(n, kTile), *column.values);
  for (Index begin = 0; begin < n; begin += kTile) {
    body(begin, std::min(kTile, n - begin), column.step == 0 ? spread : column.values + begin);
  }
}

// Draws are 1 above the probability of 0, so that they grow with u.
void bernoulli_logits(Index n, const double* u, const Column* params, double* out) noexcept {
  if (params[0].step == 0) {  // one threshold for all
    double failure = -params[0][0];
    kernels().sigmoid(1, &failure, &failure);
    const double miss = std::isnan(failure) ? kNaN : 0.0;
    for (Index i = 0; i < n; ++i) out[i] = u[i] > failure ? 1.0 : miss;
    return;
  }
  for_tiles(n, params[0], [&](Index begin, Index m, const double* logits) {
    double failure[kTile];
    for (Index i = 0; i < m; ++i) failure[i] = -logits[i];
    kernels().sigmoid(m, failure, failure);
    for (Index i = 0; i < m; ++i) {
      const double miss = failure[i] - failure[i];  // 0, or NaN
      out[begin + i] = u[begin + i] > failure[i] ? 1.0 : miss;
    }
  });
}

void bernoulli_probs(Index n, const double* u, const Column* params, double* out) noexcept {
  for_tiles(n, params[0], [&](Index begin, Index m, const double* probs) {
    for (Index i = 0; i < m; ++i) {
      const double draw = 1.0 - u[begin + i] < probs[i] ? 1.0 : 0.0;
      out[begin + i] = ((probs[i] >= 0.0) & (probs[i] <= 1.0)) ? draw : kNaN;
    }
  });
}

// The floor of an exponential variable with the rate -log(1 - probs), given by `fill_rates`.
template <class FillRates>
void geometric(Index n, const double* u, Column params, double* out, const FillRates& fill_rates) noexcept {
  for_tiles(n, params, [&](Index begin, Index m, const double* given) {
    double rates[kTile], exponential[kTile];
    fill_rates(m, given, rates);
    for (Index i = 0; i < m; ++i) exponential[i] = -u[begin + i];
    kernels().log1p(m, exponential, exponential);
    for (Index i = 0; i < m; ++i) {
      out[begin + i] = rates[i] >= 0.0 ? std::floor(-exponential[i] / rates[i]) : kNaN;
    }
  });
}

void geometric_logits(Index n, const double* u, const Column* params, double* out) noexcept {
  geometric(n, u, params[0], out, [](Index m, const double* x, double* rates) { kernels().softplus(m, x, rates); });
}

void geometric_probs(Index n, const double* u, const Column* params, double* out) noexcept {
  geometric(n, u, params[0], out, [](Index m, const double* p, double* rates) {
    for (Index i = 0; i < m; ++i) rates[i] = p[i] > 0.0 ? -p[i] : kNaN;
    kernels().log1p(m, rates, rates);
    for (Index i = 0; i < m; ++i) rates[i] = -rates[i];
  });
}

// A sampler that takes one element at a time: draw(u, parameters...).
template <class Draw>
void each(Index n, const double* u, double* out, const Draw& draw) noexcept {
  for (Index i = 0; i < n; ++i) out[i] = draw(i, u[i]);
}

double failure_of(double logits) noexcept { return 1.0 / (1.0 + std::exp(logits)); }

constexpr Index kCountWork = 150;

constexpr DiscreteSampler kSamplers[] = {
    {"bernoulli_logits", 1, 12, bernoulli_logits},
    {"bernoulli_probs", 1, 4, bernoulli_probs},
    {"geometric_logits", 1, 40, geometric_logits},
    {"geometric_probs", 1, 40, geometric_probs},
    {"poisson", 1, kCountWork,
     [](Index n, const double* u, const Column* params, double* out) noexcept {
       each(n, u, out, [&](Index i, double x) { return draw_poisson(x, params[0][i]); });
     }},
    {"poisson_log", 1, kCountWork,
     [](Index n, const double* u, const Column* params, double* out) noexcept {
       each(n, u, out, [&](Index i, double x) { return draw_poisson(x, std::exp(params[0][i])); });
     }},
    {"binomial_logits", 2, kCountWork,
     [](Index n, const double* u, const Column* params, double* out) noexcept {
       each(n, u, out, [&](Index i, double x) {
         const double logits = params[1][i];
         return draw_binomial(x, params[0][i], failure_of(-logits), failure_of(logits));
       });
     }},
    {"binomial_probs", 2, kCountWork,
     [](Index n, const double* u, const Column* params, double* out) noexcept {
       each(n, u, out, [&](Index i, double x) {
         const double p = params[1][i];
         return draw_binomial(x, params[0][i], p, 1.0 - p);
       });
     }},
    {"negative_binomial_logits", 2, kCountWork,
     [](Index n, const double* u, const Column* params, double* out) noexcept {
       each(n, u, out, [&](Index i, double x) { return draw_negative_binomial(x, params[0][i], params[1][i]); });
     }},
    {"negative_binomial_probs", 2, kCountWork,
     [](Index n, const double* u, const Column* params, double* out) noexcept {
       each(n, u, out, [&](Index i, double x) {
         const double p = params[1][i];
         return draw_negative_binomial(x, params[0][i], std::log(p) - std::log1p(-p));
       });
     }},
    {"beta_binomial", 3, 3 * kCountWork,
     [](Index n, const double* u, const Column* params, double* out) noexcept {
       each(n, u, out,
            [&](Index i, double x) { return draw_beta_binomial(x, params[0][i], params[1][i], params[2][i]); });
     }},
};

}  // namespace

std::span<const DiscreteSampler> discrete_samplers() noexcept { return kSamplers; }

}  // namespace klqp
