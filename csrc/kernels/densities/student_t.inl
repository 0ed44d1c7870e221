// Student's t density with df degrees of freedom, from df = 0.01 to the normal limit.
//
// log p = c(df) - log(2 pi) / 2 - log(scale) - (df + 1) / 2 log(1 + z^2 / df), z = (x - loc) / scale. With h = df / 2
// the constant is c = log Gamma(h + 1/2) - log Gamma(h) - log(h) / 2, by Stirling's corrections, since the gamma
// functions themselves would lose all digits; c -> -1 / (4 df).
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

struct StudentTDensity {
  static constexpr const char* name = "student_t";
  static constexpr int n_args = 4;

  double invalid, loc, inverse;
  double shift;  // log p at z = 0
  double power;  // (df + 1) / 2
  double inverse_df, inverse_root;
  double shift_slope;  // dc / d df

  KLQP_INLINE static StudentTDensity prepare(double df, double loc, double scale) {
    const double h = 0.5 * df, next = h + 0.5;
    const double inverse_df = 1.0 / df;
    const double excess = log_excess(inverse_df);  // log(next / h) - 1 / df
    const double log_h = log_one(h), log_next = log_h + (excess + inverse_df);
    const double c = madd(h, excess, stirling_error(next, log_next) - stirling_error(h, log_h));
    const double slope = (0.25 / (h * next) + (digamma_error(h, log_h) - digamma_error(next, log_next))) + excess;
    return {.invalid = invalid_unless(all_of(is_positive(df), is_finite(loc), is_positive(scale))),
            .loc = loc,
            .inverse = 1.0 / scale,
            .shift = (c - kHalfLog2Pi) - log_one(scale),
            .power = next,
            .inverse_df = inverse_df,
            .inverse_root = 1.0 / __builtin_sqrt(df),
            .shift_slope = 0.5 * slope};
  }
  KLQP_INLINE bool supports(double) const { return true; }

  KLQP_INLINE double log_prob(double x) const {
    const double t = (x - loc) * inverse * inverse_root;
    return madd(-power, log1p_square(t), shift);
  }
  KLQP_INLINE Partials gradient(double x) const {
    const double t = (x - loc) * inverse * inverse_root;
    const double ratio = over_one_plus_square(t);
    const double share = t * ratio;  // z^2 / (df + z^2)
    const double slope = 2.0 * power * inverse_root * ratio * inverse;
    const double square = t * t;
    // log(1 + t^2) - share, which begins with t^4 / 2
    const double near = madd(square, share, log_excess_near(square));
    const double far = log1p_square(t) - share;
    const double by_df = shift_slope + 0.5 * (share * inverse_df - (is_near_one(square) ? near : far));
    return {-slope, by_df, slope, madd(2.0 * power, share, -1.0) * inverse};
  }
};

}  // namespace
}  // namespace klqp
