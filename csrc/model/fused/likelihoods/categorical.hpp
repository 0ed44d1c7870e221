// The categorical likelihood: log p = eta_y - log sum_c exp(eta_c), y in 0, ..., k - 1.
#pragma once

#include <algorithm>

#include "kernels/kernels.hpp"
#include "model/fused/likelihoods/categories.hpp"
#include "model/fused/likelihoods/likelihood.hpp"
#include "model/fused/row_partition.hpp"

namespace klqp {

class CategoricalLogitsLikelihood final : public GlmLikelihood {
 public:
  explicit CategoricalLogitsLikelihood(GlmData data) : GlmLikelihood(std::move(data)), category_(data_.n) {
    require_parameters(0);
  }

  Index n_sums() const noexcept override { return 1; }

  void data_changed() override { category_.read(data_.value->value, data_.k); }

  void add(Index, Index first, Index n, double* eta, Index ld, bool gradients, double* sums) const noexcept override {
    double most[kRows], total[kRows], log_p[kRows];
    std::copy_n(eta, n, most);
    for (Index c = 1; c < data_.k; ++c) {
      for (Index i = 0; i < n; ++i) most[i] = std::max(most[i], eta[c * ld + i]);
    }
    for (Index i = 0; i < n; ++i) {
      const int y = category_[first + i];
      log_p[i] = y >= 0 ? eta[y * ld + i] - most[i] : (y == RowCategories::kOutside ? kMinusInfinity : kNaN);
    }
    std::fill_n(total, n, 0.0);
    for (Index c = 0; c < data_.k; ++c) {
      double* const column = eta + c * ld;
      for (Index i = 0; i < n; ++i) column[i] -= most[i];
      kernels().exp(n, column, column);
      for (Index i = 0; i < n; ++i) total[i] += column[i];
    }
    if (gradients) {
      for (Index i = 0; i < n; ++i) {
        const double w = category_[first + i] >= 0 ? weight(first + i) : 0.0;
        const double share = w / total[i];
        for (Index c = 0; c < data_.k; ++c) eta[c * ld + i] = w == 0.0 ? 0.0 : -share * eta[c * ld + i];
        if (w != 0.0) eta[category_[first + i] * ld + i] += w;
      }
    }
    kernels().log(n, total, total);
    for (Index i = 0; i < n; ++i) log_p[i] -= total[i];
    apply_weights(first, n, log_p);
    sums[0] += kernels().sum(n, log_p);
  }

  double finish(Index, const double* sums, double* const*) const noexcept override { return sums[0]; }

 private:
  static constexpr Index kRows = RowPartition::kMostRows;

  RowCategories category_;
};

}  // namespace klqp
