// What the densities of repeated trials share: successes and failures weighted by their log probabilities.
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

// log(p) and log(1 - p) of logits, as -(s + |logits|) for the less likely and -s for the other.
struct LogitParts {
  double s, magnitude, success, failure;  // success and failure: the probabilities

  KLQP_INLINE static LogitParts prepare(double logits) {
    const double magnitude = __builtin_fabs(logits);
    return {softplus_one(-magnitude), magnitude, sigmoid_one(logits), sigmoid_one(-logits)};
  }
};

// successes log(p) + failures log(1 - p)
KLQP_INLINE double log_trials(LogitParts parts, double logits, double successes, double failures) {
  const double unlikely = logits > 0.0 ? failures : successes;
  return -madd(successes + failures, parts.s, times_log(unlikely, parts.magnitude));
}
KLQP_INLINE double log_trials_by_logits(LogitParts parts, double successes, double failures) {
  return successes * parts.failure - failures * parts.success;
}

struct ProbParts {
  double log_success, log_failure, inverse_success, inverse_failure;

  KLQP_INLINE static ProbParts prepare(double probs) {
    return {log_one(probs), log_complement(probs), 1.0 / probs, 1.0 / (1.0 - probs)};
  }
};

KLQP_INLINE double log_trials(ProbParts parts, double successes, double failures) {
  return times_log(successes, parts.log_success) + times_log(failures, parts.log_failure);
}
KLQP_INLINE double log_trials_by_probs(ProbParts parts, double successes, double failures) {
  return times_log(successes, parts.inverse_success) - times_log(failures, parts.inverse_failure);
}

// log of the number of ways to choose x of n; 0 outside 0 <= x <= n.
KLQP_INLINE double log_choose(double x, double n) {
  const bool legal = all_of(is_count(x), is_count(n), x <= n);
  const double less = x < n - x ? x : n - x;  // symmetric, and the smaller one is exact
  const Rising rising = prepare_rising((n - less) + 1.0);
  const double sum = less + 1.0;
  const double log_sum = log_one(sum);
  // log Gamma(less + 1)
  const double factorial = madd(less + 0.5, log_sum, kHalfLog2Pi - sum) + stirling_error(sum, log_sum);
  const double y = log_rising(rising, less) - factorial;
  return legal ? (less == 0.0 ? 0.0 : y) : (((x != x) | (n != n)) ? kNaN : 0.0);
}

}  // namespace
}  // namespace klqp
