// The geometric log probability of x failures before the first success, by logits or probability of success.
#pragma once

#include "kernels/densities/trials.inl"

namespace klqp {
namespace {

struct GeometricLogitsDensity {
  static constexpr const char* name = "geometric_logits";
  static constexpr int n_args = 2;

  double invalid, logits;
  LogitParts parts;

  KLQP_INLINE static GeometricLogitsDensity prepare(double logits) {
    return {invalid_unless(logits == logits), logits, LogitParts::prepare(logits)};
  }
  KLQP_INLINE bool supports(double x) const { return is_count(x); }

  KLQP_INLINE double log_prob(double x) const { return log_trials(parts, logits, 1.0, x); }
  KLQP_INLINE Partials gradient(double x) const { return {0.0, log_trials_by_logits(parts, 1.0, x)}; }
};

struct GeometricProbsDensity {
  static constexpr const char* name = "geometric_probs";
  static constexpr int n_args = 2;

  double invalid;
  ProbParts parts;

  KLQP_INLINE static GeometricProbsDensity prepare(double probs) {
    return {invalid_unless(is_probability(probs)), ProbParts::prepare(probs)};
  }
  KLQP_INLINE bool supports(double x) const { return is_count(x); }

  KLQP_INLINE double log_prob(double x) const { return log_trials(parts, 1.0, x); }
  KLQP_INLINE Partials gradient(double x) const { return {0.0, log_trials_by_probs(parts, 1.0, x)}; }
};

}  // namespace
}  // namespace klqp
