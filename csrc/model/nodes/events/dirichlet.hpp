// Dirichlet: value x (K) on the simplex, concentration a (K).
//   log p = lgamma(sum a) - sum lgamma(a) + sum (a - 1) log x
#pragma once

#include "model/nodes/events/law.hpp"

namespace klqp {

class DirichletLaw final : public Law {
 public:
  explicit DirichletLaw(Index size) : size_(size) {
    check_at_least("the size of a Dirichlet variable", size, 1);
    widths = {size, size};
    n_prepared = 1 + size;
    n_saved = size;
    n_scratch = size + 1;
    work = 60 * size;
  }

  void prepare(const double* const* args, bool gradients, double* prepared, double* scratch) const noexcept override {
    const double* const a = args[1];
    double total = 0.0;
    bool legal = true;
    for (Index i = 0; i < size_; ++i) {
      legal = legal && a[i] > 0.0 && std::isfinite(a[i]);
      total += scratch[i] = a[i];
    }
    scratch[size_] = total;
    if (!legal) {
      prepared[0] = kNaN;
      return;
    }
    if (gradients) {
      double at_total;
      kernels().digamma(1, &total, &at_total);
      kernels().digamma(size_, a, prepared + 1);
      for (Index i = 0; i < size_; ++i) prepared[1 + i] = at_total - prepared[1 + i];
    }
    kernels().lgamma(size_ + 1, scratch, scratch);
    prepared[0] = scratch[size_] - kernels().sum(size_, scratch);
  }

  double log_prob(const double* const* args, const double* prepared, double* log_x, double*) const noexcept override {
    const double *const x = args[0], *const a = args[1];
    if (std::isnan(prepared[0])) return kNaN;
    kernels().log(size_, x, log_x);
    double total = 0.0, sum = prepared[0];
    bool inside = true, vanishes = false;
    for (Index i = 0; i < size_; ++i) {
      if (std::isnan(x[i])) return kNaN;
      inside = inside && x[i] >= 0.0;
      total += x[i];
      vanishes = vanishes || (x[i] == 0.0 && a[i] > 1.0);
      if (a[i] != 1.0) sum += (a[i] - 1.0) * log_x[i];
    }
    return inside && !vanishes && std::abs(total - 1.0) <= kTolerance ? sum : kMinusInfinity;
  }

  void add_gradient(const double* const* args, const double* prepared, const double* log_x, double cot,
                    double* const* grads, double*) const noexcept override {
    const double *const x = args[0], *const a = args[1];
    if (grads[0] != nullptr) {
      for (Index i = 0; i < size_; ++i) {
        if (a[i] != 1.0) grads[0][i] += cot * ((a[i] - 1.0) / x[i]);
      }
    }
    if (grads[1] != nullptr) {
      for (Index i = 0; i < size_; ++i) grads[1][i] += cot * (prepared[1 + i] + log_x[i]);
    }
  }

 private:
  // Of the sum of a point of the simplex.
  static constexpr double kTolerance = 1e-6;
  Index size_;
};

}  // namespace klqp
