// The Bernoulli log probability of x = 0 or 1, by logits or by the probability of 1.
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

struct BernoulliLogitsDensity {
  static constexpr const char* name = "bernoulli_logits";
  static constexpr int n_args = 2;

  double invalid, logits;

  KLQP_INLINE static BernoulliLogitsDensity prepare(double logits) {
    return {invalid_unless(logits == logits), logits};
  }
  KLQP_INLINE bool supports(double x) const { return (x == 0.0) | (x == 1.0); }

  KLQP_INLINE double log_prob(double x) const { return -softplus_one(x == 1.0 ? -logits : logits); }
  KLQP_INLINE Partials gradient(double x) const {
    const double other = sigmoid_one(x == 1.0 ? -logits : logits);  // the probability of the other value
    return {0.0, x == 1.0 ? other : -other};
  }
};

struct BernoulliProbsDensity {
  static constexpr const char* name = "bernoulli_probs";
  static constexpr int n_args = 2;

  double invalid, probs;

  KLQP_INLINE static BernoulliProbsDensity prepare(double probs) {
    return {invalid_unless(is_probability(probs)), probs};
  }
  KLQP_INLINE bool supports(double x) const { return (x == 0.0) | (x == 1.0); }

  KLQP_INLINE double log_prob(double x) const {
    const bool one = x == 1.0;
    return log_or_near(!one & (probs < 0.25), -probs, one ? probs : 1.0 - probs);
  }
  KLQP_INLINE Partials gradient(double x) const { return {0.0, 1.0 / (x == 1.0 ? probs : probs - 1.0)}; }
};

}  // namespace
}  // namespace klqp
