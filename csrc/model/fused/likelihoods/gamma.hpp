// The gamma likelihood with the mean exp(eta) and a concentration: Gamma(y; c, rate = c exp(-eta)).
#pragma once

#include <algorithm>

#include "model/fused/likelihoods/checked.hpp"

namespace klqp {

// With d = log y - eta: log p = c (d + 1 - exp(d)) - log y + s(c), where s(c) = c log c - c - log Gamma(c) is what the
// density has at y = 1 with the rate c. The parameter is one number, or data of one for each row.
class GammaRows final : public CheckedLikelihood {
 public:
  explicit GammaRows(GlmData data)
      : CheckedLikelihood("gamma_log", 1, std::move(data)), log_y_(static_cast<std::size_t>(data_.n)) {
    const Slot& c = *data_.parameters[0];
    by_row_ = c.size != 1;
    if (by_row_ && (c.size != data_.n || !c.fixed)) {
      throw ConfigError("a parameter of the likelihood must be one number, or data of one number for each row");
    }
  }

  Index n_sums() const noexcept override { return 1; }

  void add(Index draw, Index first, Index n, double* eta, Index, bool, double* sums) const noexcept override {
    const double* const log_y = log_y_.data() + first;
    *sums += by_row_ ? kernels().rows.gamma(n, log_y, scaled_weights_.data() + first, 1.0, eta)
                     : kernels().rows.gamma(n, log_y, weights(first), parameter(0, draw), eta);
  }

  double finish(Index draw, const double* sums, double* const* grads) const noexcept override {
    if (by_row_) return base() + *sums;
    const double c = parameter(0, draw);
    double slope = 0.0;
    const double at_one = log_density_at_one(c, &slope);
    if (grads[0] != nullptr) *grads[0] = total_weight() * slope + *sums;
    return base() + total_weight() * at_one + c * *sums;
  }

 private:
  bool supports(Index row) const override { return is_positive(y_of(row)); }

  double prepare() override {
    double total = 0.0;
    for (Index first = 0; first < data_.n; first += kRows) {
      const Index n = std::min(kRows, data_.n - first);
      double* const log_y = log_y_.data() + first;
      kernels().log(n, y(first), log_y);
      const double* const of_rows = weights(first);
      for (Index i = 0; i < n; ++i) total -= weighted(of_rows[i], log_y[i]);
    }
    return by_row_ ? total + scale_weights() : total;
  }

  // Concentrations of the rows go into their weights.
  double scale_weights() {
    double total = 0.0;
    scaled_weights_.resize(static_cast<std::size_t>(data_.n));
    for (Index first = 0; first < data_.n; first += kRows) {
      const double* const of_rows = weights(first);
      for (Index i = 0; i < std::min(kRows, data_.n - first); ++i) {
        const double c = data_.parameters[0]->value[first + i];
        scaled_weights_[static_cast<std::size_t>(first + i)] = weighted(of_rows[i], c);
        double slope = 0.0;
        if (of_rows[i] != 0.0) total += of_rows[i] * log_density_at_one(c, &slope);
      }
    }
    return total;
  }

  double log_density_at_one(double c, double* slope) const noexcept {
    const double one = 1.0;
    const double* const args[] = {&one, &c, &c};
    double* const slopes[] = {nullptr, slope, nullptr};
    double out = 0.0;
    gamma_.log_prob(1, args, 0, &out);
    gamma_.gradient(1, args, 0, slopes);
    return out;
  }

  const DensityKernel& gamma_ = *find_density(kernels(), "gamma");
  bool by_row_ = false;
  std::vector<double> log_y_, scaled_weights_;
};

}  // namespace klqp
