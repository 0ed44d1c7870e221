// Bijectors of simplices: K entries >= 0 with sum 1, from K - 1 coordinates. maths.md 8.2
#pragma once

#include "core/limits.hpp"
#include "model/bijectors/bijector.hpp"
#include "model/bijectors/tiles.hpp"

namespace klqp {

// Whether z (size) is a simplex up to rounding.
inline bool is_simplex(const double* z, Index size) noexcept {
  double sum = 0.0;
  for (Index k = 0; k < size; ++k) {
    if (!(z[k] >= 0.0)) return false;
    sum += z[k];
  }
  return std::abs(sum - 1.0) <= kSupportTolerance;
}

// Stick-breaking: entry k takes the share sigmoid(u_k - log(K - k)) of what the entries before it left (k from 1).
// u = 0 is the simplex of equal entries.
class StickBreaking final : public Bijector {
 public:
  explicit StickBreaking(const BijectorConfig& config)
      : Bijector("simplex", config.n_events, config.size - 1, config.size),
        offset_(static_cast<std::size_t>(config.size - 1)) {
    for (Index k = 0; k < n_free(); ++k) offset_[k] = std::log(static_cast<double>(n_free() - k));
  }

  void forward(const double* u, double* z, double* log_jacobian) const noexcept override {
    std::fill_n(log_jacobian, n_events(), 0.0);
    if (n_free() == 0) std::fill_n(z, n_events(), 1.0);
    Index k = 0;
    double stick = 1.0;
    for_tiles(n_unconstrained(), [&](Index begin, Index n) {
      double x[kTile], decay[kTile], log1p_decay[kTile];
      prepare(begin, n, u, x, decay);
      kernels().log1p(n, decay, log1p_decay);
      for (Index t = 0; t < n; ++t) {
        const Logistic share(x[t], decay[t]);
        const double softplus = std::max(x[t], 0.0) + log1p_decay[t];
        *z++ = stick * share.plus;
        stick *= share.minus;
        *log_jacobian += x[t] - static_cast<double>(n_entries() - k) * softplus;
        if (++k == n_free()) {
          *z++ = stick;
          ++log_jacobian;
          k = 0;
          stick = 1.0;
        }
      }
    });
  }

  // With S_k the cotangent of the stick after entry k: S_(k-1) = s_k cot_k + (1 - s_k) S_k.
  void add_pullback(const double* u, const double* z, const double* cot_z, const double* cot_log_jacobian,
                    double* cot_u) const noexcept override {
    Index k = 0, event = n_events();
    double cot_stick = 0.0;
    for_tiles_backwards(n_unconstrained(), [&](Index begin, Index n) {
      double x[kTile], decay[kTile];
      prepare(begin, n, u, x, decay);
      for (Index t = n - 1; t >= 0; --t) {
        if (k == 0) {
          --event;
          k = n_free();
          cot_stick = cot_z[event * n_entries() + k];
        }
        --k;
        const Index i = event * n_entries() + k;
        const Logistic share(x[t], decay[t]);
        cot_u[begin + t] += z[i] * (share.minus * (cot_z[i] - cot_stick)) +
                            cot_log_jacobian[event] * (1.0 - static_cast<double>(n_entries() - k) * share.plus);
        cot_stick = share.plus * cot_z[i] + share.minus * cot_stick;
      }
    });
  }

  // u_k = log z_k - log(z_(k+1) + ... + z_K) + log(K - k)
  void inverse(const double* z, double* u) const noexcept override {
    for (Index event = 0; event < n_events(); ++event, z += n_entries(), u += n_free()) {
      const bool inside = is_simplex(z, n_entries());
      double rest = z[n_free()];
      for (Index k = n_free() - 1; k >= 0; --k) {
        const double logit = z[k] == 0.0 ? kMinusInfinity : std::log(z[k]) - std::log(rest);
        u[k] = inside ? logit + offset_[k] : kNaN;
        rest += z[k];
      }
    }
  }

 private:
  // x (n) = u - log(K - k) from coordinate `begin` on, and decay (n) = exp(-|x|) without the rounding error of x
  void prepare(Index begin, Index n, const double* u, double* x, double* decay) const noexcept {
    Index k = begin % n_free();
    for (Index t = 0; t < n; ++t) {
      x[t] = u[begin + t] - offset_[k];
      decay[t] = x[t] > 0.0 ? -u[begin + t] : u[begin + t];
      if (++k == n_free()) k = 0;
    }
    kernels().exp(n, decay, decay);
    k = begin % n_free();
    for (Index t = 0; t < n; ++t) {
      const auto left = static_cast<double>(n_free() - k);
      decay[t] = x[t] > 0.0 ? decay[t] * left : decay[t] / left;
      if (++k == n_free()) k = 0;
    }
  }

  std::vector<double> offset_;  // log(K - k), k = 1 .. K - 1
};

// z = softmax(u_1, ..., u_(K-1), 0)
class SoftmaxSimplex final : public Bijector {
 public:
  explicit SoftmaxSimplex(const BijectorConfig& config)
      : Bijector("simplex_softmax", config.n_events, config.size - 1, config.size) {}

  void forward(const double* u, double* z, double* log_jacobian) const noexcept override {
    for (Index event = 0; event < n_events(); ++event) {
      const double* x = u + event * n_free();
      double* out = z + event * n_entries();
      double largest = 0.0;
      for (Index k = 0; k < n_free(); ++k) largest = std::max(largest, x[k]);
      for (Index k = 0; k < n_free(); ++k) out[k] = x[k] - largest;
      out[n_free()] = -largest;
      // sum of log z_k, by differences from the largest: sums of u itself would cancel
      log_jacobian[event] = kernels().sum(n_entries(), out);
    }
    kernels().exp(n_constrained(), z, z);
    for (Index event = 0; event < n_events(); ++event) {
      double* out = z + event * n_entries();
      const double total = kernels().sum(n_entries(), out);
      kernels().scale(n_entries(), 1.0 / total, out, out);
      log_jacobian[event] -= static_cast<double>(n_entries()) * std::log(total);
    }
  }

  void add_pullback(const double*, const double* z, const double* cot_z, const double* cot_log_jacobian,
                    double* cot_u) const noexcept override {
    const auto size = static_cast<double>(n_entries());
    for (Index event = 0; event < n_events(); ++event) {
      const double mean = kernels().dot(n_entries(), z, cot_z);
      const double cot = cot_log_jacobian[event];
      for (Index k = 0; k < n_free(); ++k) cot_u[k] += z[k] * (cot_z[k] - mean) + cot * (1.0 - size * z[k]);
      z += n_entries();
      cot_z += n_entries();
      cot_u += n_free();
    }
  }

  void inverse(const double* z, double* u) const noexcept override {
    for (Index event = 0; event < n_events(); ++event, z += n_entries(), u += n_free()) {
      const bool inside = is_simplex(z, n_entries());
      const double last = std::log(z[n_free()]);
      for (Index k = 0; k < n_free(); ++k) {
        const double ratio = z[k] == 0.0 ? kMinusInfinity : std::log(z[k]) - last;
        u[k] = inside ? ratio : kNaN;
      }
    }
  }
};

}  // namespace klqp
