// The uniform density on low <= x <= high.
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

struct UniformDensity {
  static constexpr const char* name = "uniform";
  static constexpr int n_args = 3;

  double invalid, low, high, width;

  KLQP_INLINE static UniformDensity prepare(double low, double high) {
    return {invalid_unless((low < high) & is_positive(high - low)), low, high, high - low};
  }
  KLQP_INLINE bool supports(double x) const { return (x >= low) & (x <= high); }

  KLQP_INLINE double log_prob(double) const { return -log_one(width); }
  KLQP_INLINE Partials gradient(double) const { return {0.0, 1.0 / width, -1.0 / width}; }
};

}  // namespace
}  // namespace klqp
