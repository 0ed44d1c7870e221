// The negative binomial log probability of x successes before total_count > 0 failures; -log x! is its base.
#pragma once

#include "kernels/densities/poisson.inl"
#include "kernels/densities/trials.inl"

namespace klqp {
namespace {

struct NegativeBinomialLogitsDensity {
  static constexpr const char* name = "negative_binomial_logits";
  static constexpr int n_args = 3;

  static constexpr unsigned base_args = 1;
  double invalid, logits, log_failure;
  Rising count;
  LogitParts parts;

  KLQP_INLINE static NegativeBinomialLogitsDensity prepare(double total_count, double logits) {
    return {.invalid = invalid_unless(is_positive(total_count) & (logits == logits)),
            .logits = logits,
            .log_failure = -softplus_one(logits),
            .count = prepare_rising(total_count),
            .parts = LogitParts::prepare(logits)};
  }
  KLQP_INLINE bool supports(double x) const { return is_count(x); }

  KLQP_INLINE double log_prob(double x) const { return log_rising(count, x) + log_trials(parts, logits, x, count.a); }
  KLQP_INLINE Partials gradient(double x) const {
    return {0.0, log_rising_slope(count, x) + log_failure, log_trials_by_logits(parts, x, count.a)};
  }
  KLQP_INLINE static double log_base(double x) { return minus_log_factorial(x); }
};

struct NegativeBinomialProbsDensity {
  static constexpr const char* name = "negative_binomial_probs";
  static constexpr int n_args = 3;

  static constexpr unsigned base_args = 1;
  double invalid;
  Rising count;
  ProbParts parts;

  KLQP_INLINE static NegativeBinomialProbsDensity prepare(double total_count, double probs) {
    return {.invalid = invalid_unless(all_of(is_positive(total_count), is_probability(probs))),
            .count = prepare_rising(total_count),
            .parts = ProbParts::prepare(probs)};
  }
  KLQP_INLINE bool supports(double x) const { return is_count(x); }

  KLQP_INLINE double log_prob(double x) const { return log_rising(count, x) + log_trials(parts, x, count.a); }
  KLQP_INLINE Partials gradient(double x) const {
    return {0.0, log_rising_slope(count, x) + parts.log_failure, log_trials_by_probs(parts, x, count.a)};
  }
  KLQP_INLINE static double log_base(double x) { return minus_log_factorial(x); }
};

}  // namespace
}  // namespace klqp
