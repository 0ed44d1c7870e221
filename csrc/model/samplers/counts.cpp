// Inversion by search, and transformed rejection (Hoermann 1993, "The transformed rejection method for generating
// Poisson random variables" and "The generation of binomial random variates").
#include "model/samplers/counts.hpp"

#include <cmath>
#include <limits>

#include "core/limits.hpp"
#include "model/samplers/saddle_point.hpp"
#include "model/samplers/substream.hpp"

namespace klqp {
namespace {

constexpr double kMost = std::numeric_limits<double>::max();
constexpr double kSearchedMean = 30.0;
constexpr double kSearchedOdds = 16.0;
// More than one in three is accepted, so that nobody gets there.
constexpr int kMostAttempts = 1000;

// The smallest k with P(X <= k) >= u, from P(X = 0) and ratio(k) = P(X = k) / P(X = k - 1); k from 0 to `most`. It ends
// where what is left is less than what uniforms can tell.
template <class Ratio>
double search(double u, double at_zero, double mean, double most, const Ratio& ratio) noexcept {
  double k = 0.0, p = at_zero, below = at_zero;
  while (u > below && k < most && (k < mean || p > 0x1p-60)) {
    k += 1.0;
    p *= ratio(k);
    below += p;
  }
  return k;
}

// The hat of Hoermann's transformed rejection: k = floor((2 a / (1/2 - |u|) + b) u + centre) for u on (-1/2, 1/2).
struct Hat {
  double a, b, centre;
  double inverse_alpha;
  double sure;  // attempts below are accepted at once where |u| <= 0.43

  // `log_ratio(k)` is the log probability of k, relative to the one that the hat was made for; k from 0 to `most`.
  template <class LogRatio>
  double draw(double noise, double most, const LogRatio& log_ratio) const noexcept {
    Substream substream(noise);
    for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
      const Substream::Pair pair = substream.next();
      const double u = pair.first - 0.5, v = pair.second, edge = 0.5 - std::fabs(u);
      const double k = std::floor((2.0 * a / edge + b) * u + centre);
      if (edge >= 0.07 && v <= sure) return k;
      if (!(k >= 0.0 && k <= most) || (edge < 0.013 && v > edge)) continue;
      if (std::log(v * inverse_alpha / (a / (edge * edge) + b)) <= log_ratio(k)) return k;
    }
    return kNaN;
  }
};

double reject_poisson(double u, double rate) noexcept {
  Hat hat;
  hat.b = 0.931 + 2.53 * std::sqrt(rate);
  hat.a = -0.059 + 0.02483 * hat.b;
  hat.centre = rate + 0.43;
  hat.inverse_alpha = 1.1239 + 1.1328 / (hat.b - 3.4);
  hat.sure = 0.9277 - 3.6224 / (hat.b - 2.0);
  return hat.draw(u, kMost, [&](double k) { return log_poisson(k, rate); });
}

// For p <= 1/2.
double reject_binomial(double u, double n, double p, double q) noexcept {
  const double spread = std::sqrt(n * p * q), mode = std::floor((n + 1.0) * p);
  Hat hat;
  hat.b = 1.15 + 2.53 * spread;
  hat.a = -0.0873 + 0.0248 * hat.b + 0.01 * p;
  hat.centre = n * p + 0.5;
  hat.inverse_alpha = (2.83 + 5.1 / hat.b) * spread;
  hat.sure = 0.92 - 4.2 / hat.b;
  const double at_mode = log_binomial(mode, n, p, q);
  return hat.draw(u, n, [&](double k) { return log_binomial(k, n, p, q) - at_mode; });
}

// log of a Gamma(a) variable, from a uniform.
double draw_log_gamma(double u, double a) noexcept {
  double normal, out;
  kernels().norm_ppf(1, &u, &normal);
  kernels().gamma_log_draws(1, &a, true, &normal, &out);
  return out;
}

bool is_positive(double x) noexcept { return x > 0.0 && std::isfinite(x); }

bool is_count(double n) noexcept { return n >= 0.0 && std::isfinite(n) && n == std::floor(n); }

}  // namespace

double draw_poisson(double u, double rate) noexcept {
  if (!(rate >= 0.0) || std::isinf(rate)) return kNaN;
  if (rate >= kSearchedMean) return reject_poisson(u, rate);
  return search(u, std::exp(-rate), rate, kMost, [rate](double k) { return rate / k; });
}

double draw_binomial(double u, double n, double p, double q) noexcept {
  if (!is_count(n) || !(p >= 0.0 && q >= 0.0)) return kNaN;
  if (p > q) return n - draw_binomial(1.0 - u, n, q, p);
  if (p == 0.0) return 0.0;
  const double mean = n * p, odds = p / q;
  if (mean >= kSearchedMean) return reject_binomial(u, n, p, q);
  return search(u, std::exp(n * std::log1p(-p)), mean, n, [n, odds](double k) { return (n - k + 1.0) / k * odds; });
}

double draw_negative_binomial(double u, double total, double logits) noexcept {
  if (!is_positive(total) || std::isnan(logits)) return kNaN;
  const double odds = std::exp(logits), mean = total * odds;
  if (mean < kSearchedMean && odds < kSearchedOdds) {
    const double p = odds / (1.0 + odds);
    return search(u, std::exp(-total * std::log1p(odds)), mean, kMost,
                  [total, p](double k) { return (total + k - 1.0) / k * p; });
  }
  const Substream::Pair pair = Substream(u).next();
  return draw_poisson(pair.second, std::exp(draw_log_gamma(pair.first, total) + logits));
}

double draw_beta_binomial(double u, double n, double a, double b) noexcept {
  if (!is_count(n) || !is_positive(a) || !is_positive(b)) return kNaN;
  Substream substream(u);
  const Substream::Pair gammas = substream.next();
  const double logits = draw_log_gamma(gammas.first, a) - draw_log_gamma(gammas.second, b);
  return draw_binomial(substream.next().first, n, 1.0 / (1.0 + std::exp(-logits)), 1.0 / (1.0 + std::exp(logits)));
}

}  // namespace klqp
