// Bijectors of numbers: the real line, half lines and intervals. An event is one element. maths.md 8.1
#pragma once

#include <limits>

#include "model/bijectors/bijector.hpp"
#include "model/bijectors/tiles.hpp"

namespace klqp {

// z = u
class Identity final : public Bijector {
 public:
  explicit Identity(const BijectorConfig& config) : Bijector("identity", config.n_events, 1, 1) {}

  void forward(const double* u, double* z, double* log_jacobian) const noexcept override {
    std::copy_n(u, n_events(), z);
    std::fill_n(log_jacobian, n_events(), 0.0);
  }
  void add_pullback(const double*, const double*, const double* cot_z, const double*,
                    double* cot_u) const noexcept override {
    for (Index i = 0; i < n_events(); ++i) cot_u[i] += cot_z[i];
  }
  void inverse(const double* z, double* u) const noexcept override { std::copy_n(z, n_events(), u); }
};

// z = exp(u)
class Positive final : public Bijector {
 public:
  explicit Positive(const BijectorConfig& config) : Bijector("positive", config.n_events, 1, 1) {}

  void forward(const double* u, double* z, double* log_jacobian) const noexcept override {
    kernels().exp(n_events(), u, z);
    std::copy_n(u, n_events(), log_jacobian);
  }
  void add_pullback(const double*, const double* z, const double* cot_z, const double* cot_log_jacobian,
                    double* cot_u) const noexcept override {
    for (Index i = 0; i < n_events(); ++i) cot_u[i] += pulled(cot_z[i], z[i]) + cot_log_jacobian[i];
  }
  void inverse(const double* z, double* u) const noexcept override { kernels().log(n_events(), z, u); }
};

// z = log(1 + exp(u))
class Softplus final : public Bijector {
 public:
  explicit Softplus(const BijectorConfig& config) : Bijector("softplus", config.n_events, 1, 1) {}

  void forward(const double* u, double* z, double* log_jacobian) const noexcept override {
    kernels().softplus(n_events(), u, z);
    for (Index i = 0; i < n_events(); ++i) log_jacobian[i] = -u[i];
    kernels().softplus(n_events(), log_jacobian, log_jacobian);
    for (Index i = 0; i < n_events(); ++i) log_jacobian[i] = -log_jacobian[i];
  }
  void add_pullback(const double* u, const double*, const double* cot_z, const double* cot_log_jacobian,
                    double* cot_u) const noexcept override {
    for_tiles(n_events(), [&](Index begin, Index n) {
      double decay[kTile];
      fill_decay(n, u + begin, decay);
      for (Index t = 0; t < n; ++t) {
        const Logistic s(u[begin + t], decay[t]);
        cot_u[begin + t] += cot_z[begin + t] * s.plus + cot_log_jacobian[begin + t] * s.minus;
      }
    });
  }
  // u = z + log(1 - exp(-z))
  void inverse(const double* z, double* u) const noexcept override {
    for (Index i = 0; i < n_events(); ++i) u[i] = -z[i];
    kernels().expm1(n_events(), u, u);
    for (Index i = 0; i < n_events(); ++i) u[i] = -u[i];
    kernels().log(n_events(), u, u);
    for (Index i = 0; i < n_events(); ++i) u[i] += z[i];
  }
};

// One bound for each of n elements from one or n values.
inline std::vector<double> spread_bounds(const std::vector<double>& values, Index n) {
  return values.size() == 1 ? std::vector<double>(static_cast<std::size_t>(n), values[0]) : values;
}

// z = a + exp(u), or z = b - exp(u)
class HalfLine : public Bijector {
 public:
  void forward(const double* u, double* z, double* log_jacobian) const noexcept override {
    kernels().exp(n_events(), u, z);
    for (Index i = 0; i < n_events(); ++i) z[i] = bound_[i] + sign_ * z[i];
    std::copy_n(u, n_events(), log_jacobian);
  }
  void add_pullback(const double* u, const double*, const double* cot_z, const double* cot_log_jacobian,
                    double* cot_u) const noexcept override {
    for_tiles(n_events(), [&](Index begin, Index n) {
      double slope[kTile];
      kernels().exp(n, u + begin, slope);
      for (Index t = 0; t < n; ++t) {
        cot_u[begin + t] += pulled(cot_z[begin + t], sign_ * slope[t]) + cot_log_jacobian[begin + t];
      }
    });
  }
  void inverse(const double* z, double* u) const noexcept override {
    for (Index i = 0; i < n_events(); ++i) u[i] = sign_ * (z[i] - bound_[i]);
    kernels().log(n_events(), u, u);
  }

 protected:
  HalfLine(const char* name, Index n, const std::vector<double>& bound, double sign)
      : Bijector(name, n, 1, 1), bound_(spread_bounds(bound, n)), sign_(sign) {}

 private:
  std::vector<double> bound_;
  double sign_;
};

class LowerBounded final : public HalfLine {
 public:
  explicit LowerBounded(const BijectorConfig& config) : HalfLine("lower", config.n_events, config.lower, 1.0) {}
};

class UpperBounded final : public HalfLine {
 public:
  explicit UpperBounded(const BijectorConfig& config) : HalfLine("upper", config.n_events, config.upper, -1.0) {}
};

// z = a + (b - a) sigmoid(u), measured from the nearer end
class Interval : public Bijector {
 public:
  explicit Interval(const BijectorConfig& config)
      : Interval("interval", config.n_events, spread_bounds(config.lower, config.n_events),
                 spread_bounds(config.upper, config.n_events)) {}

  void forward(const double* u, double* z, double* log_jacobian) const noexcept override {
    for_tiles(n_events(), [&](Index begin, Index n) {
      double decay[kTile], log1p_decay[kTile];
      fill_decay(n, u + begin, decay);
      kernels().log1p(n, decay, log1p_decay);
      for (Index t = 0; t < n; ++t) {
        const Index i = begin + t;
        const double distance = width_[i] * (decay[t] / (1.0 + decay[t]));
        z[i] = u[i] > 0.0 ? upper_[i] - distance : lower_[i] + distance;
        log_jacobian[i] = log_width_[i] - std::abs(u[i]) - 2.0 * log1p_decay[t];
      }
    });
  }
  void add_pullback(const double* u, const double*, const double* cot_z, const double* cot_log_jacobian,
                    double* cot_u) const noexcept override {
    for_tiles(n_events(), [&](Index begin, Index n) {
      double decay[kTile];
      fill_decay(n, u + begin, decay);
      for (Index t = 0; t < n; ++t) {
        const Index i = begin + t;
        const Logistic s(u[i], decay[t]);
        cot_u[i] += cot_z[i] * (width_[i] * (s.plus * s.minus)) + cot_log_jacobian[i] * (s.minus - s.plus);
      }
    });
  }
  // u = log(z - a) - log(b - z)
  void inverse(const double* z, double* u) const noexcept override {
    for_tiles(n_events(), [&](Index begin, Index n) {
      double above[kTile], below[kTile];
      for (Index t = 0; t < n; ++t) {
        above[t] = z[begin + t] - lower_[begin + t];
        below[t] = upper_[begin + t] - z[begin + t];
      }
      kernels().log(n, above, above);
      kernels().log(n, below, below);
      for (Index t = 0; t < n; ++t) u[begin + t] = above[t] - below[t];
    });
  }

 protected:
  // lower (n), upper (n)
  Interval(const char* name, Index n, std::vector<double> lower, std::vector<double> upper)
      : Bijector(name, n, 1, 1),
        lower_(std::move(lower)),
        upper_(std::move(upper)),
        width_(upper_),
        log_width_(upper_) {
    for (Index i = 0; i < n; ++i) {
      width_[i] = upper_[i] - lower_[i];
      log_width_[i] = std::log(width_[i]);
    }
  }

 private:
  std::vector<double> lower_, upper_, width_, log_width_;
};

class UnitInterval final : public Interval {
 public:
  explicit UnitInterval(const BijectorConfig& config)
      : Interval("unit_interval", config.n_events, spread_bounds({0.0}, config.n_events),
                 spread_bounds({1.0}, config.n_events)) {}
};

}  // namespace klqp
