// The Bernoulli log probability of x = 0 or 1, by logits or by the probability of 1.
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

// Asking for 0 and for 1 separately would make compilers branch.
KLQP_INLINE bool is_bit(double x) { return x * (1.0 - x) == 0.0; }

struct BernoulliLogitsDensity {
  static constexpr const char* name = "bernoulli_logits";
  static constexpr int n_args = 2;

  double invalid, logits, decay;  // decay = exp(-|logits|), which both values share

  KLQP_INLINE static BernoulliLogitsDensity prepare(double logits) {
    return {invalid_unless(logits == logits), logits, exp_decay(logits)};
  }
  KLQP_INLINE bool supports(double x) const { return is_bit(x); }

  // The logits of the value that is not x.
  KLQP_INLINE double other(double x) const { return logits * (1.0 - 2.0 * x); }

  KLQP_INLINE double log_prob(double x) const {
    const double against = other(x);
    return -((against > 0.0 ? against : 0.0) + log1p_unit(decay));
  }
  KLQP_INLINE Partials gradient(double x) const {
    return {0.0, (2.0 * x - 1.0) * ((other(x) < 0.0 ? decay : 1.0) / (1.0 + decay))};
  }
};

struct BernoulliProbsDensity {
  static constexpr const char* name = "bernoulli_probs";
  static constexpr int n_args = 2;

  double invalid, probs, complement;

  KLQP_INLINE static BernoulliProbsDensity prepare(double probs) {
    return {invalid_unless(is_probability(probs)), probs, 1.0 - probs};
  }
  KLQP_INLINE bool supports(double x) const { return is_bit(x); }

  KLQP_INLINE double log_prob(double x) const {
    const bool near = (x < 0.5) & (probs < 0.25);
    return log_or_near(near, -probs, select(x < 0.5, complement, probs));
  }
  KLQP_INLINE Partials gradient(double x) const { return {0.0, 1.0 / select(x < 0.5, -complement, probs)}; }
};

}  // namespace
}  // namespace klqp
