// The ordered logistic likelihood, P(y <= j) = sigmoid(c_j - eta) with increasing cutpoints c (K - 1).
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/kernels.hpp"
#include "model/fused/likelihoods/categories.hpp"
#include "model/fused/likelihoods/likelihood.hpp"
#include "model/fused/row_partition.hpp"

namespace klqp {

// With a = c_y - eta and b = c_(y-1) - eta: sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)). The last
// factor depends on the category alone, so that rows are counted by category.
class OrderedLogisticLikelihood final : public GlmLikelihood {
 public:
  explicit OrderedLogisticLikelihood(GlmData data) : GlmLikelihood(std::move(data)), category_(data_.n) {
    require_parameters(1);
    if (data_.k != 1) throw ConfigError("ordered_logistic wants a predictor of one column");
    n_cuts_ = data_.parameters[0]->size;
    counts_.resize(static_cast<std::size_t>(n_cuts_ + 1));
  }

  Index n_sums() const noexcept override { return 1 + n_cuts_; }

  void data_changed() override {
    category_.read(data_.value->value, n_cuts_ + 1);
    std::fill(counts_.begin(), counts_.end(), 0.0);
    for (Index i = 0; i < data_.n; ++i) {
      if (category_[i] >= 0) counts_[static_cast<std::size_t>(category_[i])] += weight(i);
    }
  }

  void add(Index draw, Index first, Index n, double* eta, Index, bool gradients, double* sums) const noexcept override {
    const double* const c = data_.parameters[0]->at(draw);
    double above[kRows], below[kRows], log_p[kRows], other[kRows];
    for (Index i = 0; i < n; ++i) {
      const int y = category_[first + i];
      above[i] = y >= 0 && y < n_cuts_ ? eta[i] - c[y] : kMinusInfinity;
      below[i] = y > 0 ? c[y - 1] - eta[i] : kMinusInfinity;
    }
    kernels().softplus(n, above, log_p);
    kernels().softplus(n, below, other);
    for (Index i = 0; i < n; ++i) {
      const int y = category_[first + i];
      const double inside = std::isfinite(eta[i]) ? -log_p[i] - other[i] : kNaN;
      log_p[i] = y >= 0 ? inside : (y == RowCategories::kOutside ? kMinusInfinity : kNaN);
    }
    apply_weights(first, n, log_p);
    sums[0] += kernels().sum(n, log_p);
    if (!gradients) return;
    kernels().sigmoid(n, above, above);
    kernels().sigmoid(n, below, below);
    for (Index i = 0; i < n; ++i) {
      const int y = category_[first + i];
      const double w = weight(first + i);
      eta[i] = y < 0 || w == 0.0 ? 0.0 : w * (below[i] - above[i]);
      if (y >= 0 && y < n_cuts_) sums[1 + y] += weighted(w, above[i]);
      if (y > 0) sums[y] -= weighted(w, below[i]);
    }
  }

  double finish(Index draw, const double* sums, double* const* grads) const noexcept override {
    const double* const c = data_.parameters[0]->at(draw);
    double total = sums[0];
    if (grads[0] != nullptr) std::copy_n(sums + 1, n_cuts_, grads[0]);
    for (Index j = 1; j < n_cuts_; ++j) {
      const double count = counts_[static_cast<std::size_t>(j)], gap = c[j] - c[j - 1];
      if (count == 0.0) continue;
      total += gap > 0.0 ? count * (gap > 0.7 ? std::log1p(-std::exp(-gap)) : std::log(-std::expm1(-gap))) : kNaN;
      if (grads[0] == nullptr) continue;
      const double steep = count / std::expm1(gap);
      grads[0][j] += steep;
      grads[0][j - 1] -= steep;
    }
    return total;
  }

 private:
  static constexpr Index kRows = RowPartition::kMostRows;

  Index n_cuts_ = 0;
  RowCategories category_;
  std::vector<double> counts_;  // of rows by category, weighted
};

}  // namespace klqp
