// Radial: the factor r = sqrt(nu / g), g ~ chi^2(nu), of Student-t draws, as a smooth function of one standard normal.
//
// g is twice the quantile of Gamma(nu / 2) at the normal's probability, to full precision, so that r is differentiable
// in nu at fixed noise (maths.md 2.9).
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "core/view.hpp"

namespace klqp {

class Radial {
 public:
  // For nu degrees of freedom, above 2.
  void prepare(double nu) noexcept {
    nu_ = nu;
    shape_ = 0.5 * nu;
    log_shape_ = std::log(shape_);
    kernels().lgamma(1, &shape_, &log_gamma_);
  }

  // log r for a standard normal x, and dlog r / dnu where `slope` is not null.
  double log_factor(double x, double* slope = nullptr) const noexcept {
    const double log_z = log_quantile(x);
    if (slope != nullptr) {
      double by_shape;  // of log_z
      kernels().gamma_log_gradient(1, &shape_, true, &log_z, &by_shape);
      *slope = 0.5 / nu_ - 0.25 * by_shape;
    }
    return 0.5 * (log_shape_ - log_z);
  }

 private:
  static constexpr double kLargeShape = 2e4;
  static constexpr int kMostSteps = 60;

  // Logarithm of the quantile of Gamma(shape) at the probability of x.
  double log_quantile(double x) const noexcept {
    if (!(std::fabs(x) < 1e3)) return std::numeric_limits<double>::quiet_NaN();
    if (shape_ > kLargeShape) return log_shape_ + expanded(x);
    const double goal = log_lower_normal(-std::fabs(x));
    double h = guess(x, goal);
    for (int k = 0; k < kMostSteps; ++k) {
      const double tail = x <= 0.0 ? log_lower(h) : log_upper(h);
      const double slope = std::exp(log_density(h) - tail);
      const double step = (goal - tail) / (x <= 0.0 ? slope : -slope);
      h += step;
      if (!(std::fabs(step) > 1e-9)) break;  // Newton's method: the next would be of its square
    }
    return h;
  }

  // Temme's expansion for large shapes (DLMF 8.12.21-23): log(z / shape), to 1e-11.
  double expanded(double x) const noexcept {
    const double at = x / std::sqrt(shape_);
    const double eta = at + (-1.0 / 3.0 + at * (1.0 / 36.0 + at / 1620.0)) / shape_;
    return std::log1p(
        eta *
        (1.0 + eta * (1.0 / 3.0 + eta * (1.0 / 36.0 + eta * (-1.0 / 270.0 + eta * (1.0 / 4320.0 + eta / 17010.0))))));
  }

  // Wilson and Hilferty's cube; near 0, where it fails, the first term of the series.
  double guess(double x, double goal) const noexcept {
    const double root = 1.0 - 1.0 / (9.0 * shape_) + x / (3.0 * std::sqrt(shape_));
    if (root > 0.2) return log_shape_ + 3.0 * std::log(root);
    return (goal + log_gamma_ + log_shape_) / shape_;
  }

  // Of log z, which is log-concave; so are its tails, so that Newton's method on their logarithms converges.
  double log_density(double h) const noexcept { return shape_ * h - std::exp(h) - log_gamma_; }

  double log_lower(double h) const noexcept {
    const double z = std::exp(h);
    double term = 1.0 / shape_, sum = term;
    for (double n = shape_ + 1.0; term > 1e-17 * sum; n += 1.0) {
      term *= z / n;
      sum += term;
    }
    return log_density(h) + std::log(sum);
  }

  // By Lentz's continued fraction, or from the other tail where that is not small.
  double log_upper(double h) const noexcept {
    const double z = std::exp(h);
    if (z < shape_ + 1.0) return std::log1p(-std::min(std::exp(log_lower(h)), 1.0 - 1e-16));
    constexpr double kTiny = 1e-300;
    double b = z + 1.0 - shape_, c = 1.0 / kTiny, d = 1.0 / b, out = d;
    for (double n = 1.0; n < 1e5; n += 1.0) {
      const double a = n * (shape_ - n);
      b += 2.0;
      d = a * d + b;
      c = b + a / c;
      if (std::fabs(d) < kTiny) d = kTiny;
      if (std::fabs(c) < kTiny) c = kTiny;
      d = 1.0 / d;
      out *= c * d;
      if (std::fabs(c * d - 1.0) < 1e-16) break;
    }
    return log_density(h) + std::log(out);
  }

  static double log_lower_normal(double x) noexcept {
    if (x > -37.0) return std::log(0.5 * std::erfc(-x / std::numbers::sqrt2));
    return -0.5 * x * x - std::log(-x) - 0.5 * std::log(2.0 * std::numbers::pi);
  }

  double nu_ = 0.0, shape_ = 0.0, log_shape_ = 0.0, log_gamma_ = 0.0;
};

}  // namespace klqp
