// Means over the accepted draws of a step, and their standard errors.
#pragma once

#include <cmath>
#include <vector>

#include "core/limits.hpp"
#include "core/noise.hpp"
#include "core/view.hpp"

namespace klqp {

// weights (S) sum to 1 over the accepted draws; value(s) is not asked for rejected ones.
template <class Value>
double weighted_mean(ConstSpan weights, const Value& value) noexcept {
  double mean = 0.0;
  for (std::size_t s = 0; s < weights.size(); ++s) {
    if (weights[s] > 0.0) mean += weights[s] * value(static_cast<Index>(s));
  }
  return mean;
}

// Standard error of the weighted mean over independent groups of draws; NaN for a single group.
template <class Value>
double error_of_mean(ConstSpan weights, const Noise& draws, double mean, const Value& value) {
  const Index n_groups = draws.n_groups();
  if (n_groups < 2) return kNaN;
  thread_local std::vector<double> deviation;
  deviation.assign(static_cast<std::size_t>(n_groups), 0.0);
  for (std::size_t s = 0; s < weights.size(); ++s) {
    const auto draw = static_cast<Index>(s);
    if (weights[s] > 0.0) deviation[draws.group(draw)] += weights[s] * (value(draw) - mean);
  }
  double squares = 0.0;
  for (const double d : deviation) squares += d * d;
  const auto groups = static_cast<double>(n_groups);
  return std::sqrt(squares * groups / (groups - 1.0));
}

}  // namespace klqp
