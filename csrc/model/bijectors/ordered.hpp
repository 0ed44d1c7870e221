// Bijectors of increasing vectors: z_k = z_(k-1) + exp(u_k). maths.md 8.3
#pragma once

#include "core/limits.hpp"
#include "model/bijectors/bijector.hpp"
#include "model/bijectors/tiles.hpp"

namespace klqp {

// The first entry is u_1, or exp(u_1) where all have to be positive.
class Increasing : public Bijector {
 public:
  void forward(const double* u, double* z, double* log_jacobian) const noexcept override {
    kernels().exp(n_constrained(), u, z);
    for (Index event = 0; event < n_events(); ++event, u += n_free(), z += n_free()) {
      if (!positive_) z[0] = u[0];
      log_jacobian[event] = positive_ ? u[0] : 0.0;
      for (Index k = 1; k < n_free(); ++k) {
        z[k] += z[k - 1];
        log_jacobian[event] += u[k];
      }
    }
  }

  void add_pullback(const double* u, const double*, const double* cot_z, const double* cot_log_jacobian,
                    double* cot_u) const noexcept override {
    Index k = 0, event = n_events();
    double cot = 0.0;  // of an increment: the sum over the entries from it on
    for_tiles_backwards(n_unconstrained(), [&](Index begin, Index n) {
      double increment[kTile];
      kernels().exp(n, u + begin, increment);
      for (Index t = n - 1; t >= 0; --t) {
        if (k == 0) {
          --event;
          k = n_free();
          cot = 0.0;
        }
        --k;
        cot += cot_z[begin + t];
        cot_u[begin + t] += k > 0 || positive_ ? pulled(cot, increment[t]) + cot_log_jacobian[event] : cot;
      }
    });
  }

  void inverse(const double* z, double* u) const noexcept override {
    for (Index event = 0; event < n_events(); ++event, u += n_free(), z += n_free()) {
      u[0] = positive_ ? std::log(z[0]) : z[0];
      bool inside = !positive_ || z[0] >= 0.0;
      for (Index k = 1; k < n_free(); ++k) {
        inside = inside && z[k] >= z[k - 1];
        u[k] = std::log(z[k] - z[k - 1]);
      }
      if (!inside) std::fill_n(u, n_free(), kNaN);
    }
  }

 protected:
  Increasing(const char* name, const BijectorConfig& config, bool positive)
      : Bijector(name, config.n_events, config.size, config.size), positive_(positive) {}

 private:
  bool positive_;
};

class Ordered final : public Increasing {
 public:
  explicit Ordered(const BijectorConfig& config) : Increasing("ordered", config, false) {}
};

class PositiveOrdered final : public Increasing {
 public:
  explicit PositiveOrdered(const BijectorConfig& config) : Increasing("positive_ordered", config, true) {}
};

}  // namespace klqp
