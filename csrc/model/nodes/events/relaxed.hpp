// The relaxed one-hot categorical law: value x (K) on the simplex, temperature t, logits or weights of categories (K).
//   log p = lgamma(K) + (K - 1) log t + sum_k (a_k - log x_k) - K log sum_k exp(a_k),  a_k = log p_k - t log x_k
// (Maddison, Mnih and Teh 2017, "The concrete distribution", definition 1).
#pragma once

#include "model/nodes/events/categories.hpp"

namespace klqp {

class RelaxedOneHotLaw final : public Law {
 public:
  RelaxedOneHotLaw(Index size, bool probs) : size_(size), categories_(size, probs) {
    check_at_least("the number of categories", size, 1);
    widths = {size, 1, size};
    n_prepared = categories_.n_prepared() + 1;
    n_saved = 2 * size;
    work = 60 * size;
    const auto k = static_cast<double>(size);
    kernels().lgamma(1, &k, &log_factorial_);
  }

  void prepare(const double* const* args, bool, double* prepared, double*) const noexcept override {
    const double temperature = *args[1];
    categories_.prepare(args[2], prepared);
    prepared[2 * size_ + 1] = log_factorial_ + static_cast<double>(size_ - 1) * std::log(temperature);
    if (!(temperature > 0.0) || std::isinf(temperature)) prepared[0] = kNaN;
  }

  // Saves log x (K) and the softmax of a (K).
  double log_prob(const double* const* args, const double* prepared, double* saved, double*) const noexcept override {
    const double *const x = args[0], temperature = *args[1];
    double *const log_x = saved, *const shares = saved + size_;
    if (std::isnan(prepared[0])) return kNaN;
    kernels().log(size_, x, log_x);
    double total = 0.0, most = kMinusInfinity, sum = prepared[2 * size_ + 1];
    bool inside = true;
    for (Index k = 0; k < size_; ++k) {
      if (std::isnan(x[k])) return kNaN;
      inside = inside && x[k] > 0.0;
      total += x[k];
      shares[k] = prepared[k] - temperature * log_x[k];
      sum += shares[k] - log_x[k];
      most = std::max(most, shares[k]);
    }
    if (!inside || !(std::abs(total - 1.0) <= kTolerance)) return kMinusInfinity;
    for (Index k = 0; k < size_; ++k) shares[k] -= most;
    kernels().exp(size_, shares, shares);
    const double normaliser = kernels().sum(size_, shares);
    kernels().scale(size_, 1.0 / normaliser, shares, shares);
    return sum - static_cast<double>(size_) * (most + std::log(normaliser));
  }

  // With g_k = 1 - K softmax(a)_k, the derivative in a_k; the g sum to 0, so that the weights need no normaliser.
  void add_gradient(const double* const* args, const double*, const double* saved, double cot, double* const* grads,
                    double*) const noexcept override {
    const double *const x = args[0], temperature = *args[1];
    const double *const log_x = saved, *const shares = saved + size_;
    const auto n = static_cast<double>(size_);
    if (grads[1] != nullptr) *grads[1] += cot * (n - 1.0) / temperature;
    for (Index k = 0; k < size_; ++k) {
      const double g = cot * (1.0 - n * shares[k]);
      if (grads[0] != nullptr) grads[0][k] -= (temperature * g + cot) / x[k];
      if (grads[1] != nullptr) *grads[1] -= g * log_x[k];
      if (grads[2] != nullptr) categories_.add_one(args[2], k, g, grads[2]);
    }
  }

 private:
  // Of the sum of a point of the simplex.
  static constexpr double kTolerance = 1e-6;
  Index size_;
  Categories categories_;
  double log_factorial_;
};

}  // namespace klqp
