// The binomial log probability of x successes in total_count trials; log C(total_count, x) is its base.
#pragma once

#include "kernels/densities/trials.inl"

namespace klqp {
namespace {

struct BinomialLogitsDensity {
  static constexpr const char* name = "binomial_logits";
  static constexpr int n_args = 3;

  static constexpr unsigned base_args = 3;
  double invalid, total_count, logits;
  LogitParts parts;

  KLQP_INLINE static BinomialLogitsDensity prepare(double total_count, double logits) {
    return {invalid_unless(is_count(total_count) & (logits == logits)), total_count, logits,
            LogitParts::prepare(logits)};
  }
  KLQP_INLINE bool supports(double x) const { return is_count(x) & (x <= total_count); }

  KLQP_INLINE double log_prob(double x) const { return log_trials(parts, logits, x, total_count - x); }
  KLQP_INLINE Partials gradient(double x) const { return {0.0, 0.0, log_trials_by_logits(parts, x, total_count - x)}; }
  KLQP_INLINE static double log_base(double x, double total_count) { return log_choose(x, total_count); }
};

struct BinomialProbsDensity {
  static constexpr const char* name = "binomial_probs";
  static constexpr int n_args = 3;

  static constexpr unsigned base_args = 3;
  double invalid, total_count;
  ProbParts parts;

  KLQP_INLINE static BinomialProbsDensity prepare(double total_count, double probs) {
    return {invalid_unless(all_of(is_count(total_count), is_probability(probs))), total_count,
            ProbParts::prepare(probs)};
  }
  KLQP_INLINE bool supports(double x) const { return is_count(x) & (x <= total_count); }

  KLQP_INLINE double log_prob(double x) const { return log_trials(parts, x, total_count - x); }
  KLQP_INLINE Partials gradient(double x) const { return {0.0, 0.0, log_trials_by_probs(parts, x, total_count - x)}; }
  KLQP_INLINE static double log_base(double x, double total_count) { return log_choose(x, total_count); }
};

}  // namespace
}  // namespace klqp
