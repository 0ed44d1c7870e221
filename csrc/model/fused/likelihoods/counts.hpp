// Likelihoods of counts: Poisson with the log rate eta, and negative binomial with the log odds eta of a success.
#pragma once

#include <algorithm>
#include <map>

#include "model/fused/likelihoods/checked.hpp"

namespace klqp {

class PoissonRows final : public CheckedLikelihood {
 public:
  explicit PoissonRows(GlmData data) : CheckedLikelihood("poisson_log", 0, std::move(data)) {}

  Index n_sums() const noexcept override { return 1; }

  void add(Index, Index first, Index n, double* eta, Index, bool, double* sums) const noexcept override {
    *sums += kernels().rows.poisson(n, y(first), weights(first), eta);
  }

  double finish(Index, const double* sums, double* const*) const noexcept override { return base() + *sums; }

 private:
  bool supports(Index row) const override { return is_count(y_of(row)); }
  double prepare() override { return sum_of_base(*find_density(kernels(), "poisson_log"), nullptr, false); }
};

// log p = log Gamma(r + y) - log Gamma(r) - log y! + y log(p) + r log(1 - p), r the parameter. What r alone has to do
// with y is worked out once for each number that occurs in the data.
class NegativeBinomialRows final : public CheckedLikelihood {
 public:
  explicit NegativeBinomialRows(GlmData data) : CheckedLikelihood("negative_binomial_logits", 1, std::move(data)) {}

  Index n_sums() const noexcept override { return 2; }

  void add(Index draw, Index first, Index n, double* eta, Index, bool, double* sums) const noexcept override {
    kernels().rows.negative_binomial(n, y(first), weights(first), parameter(0, draw), eta, sums);
  }

  double finish(Index draw, const double* sums, double* const* grads) const noexcept override {
    const double r = parameter(0, draw);
    if (!is_positive(r)) return kNaN;
    double total = 0.0, slope = 0.0, values[kRows], slopes[kRows];
    const auto n_counts = static_cast<Index>(counts_.size());
    for (Index first = 0; first < n_counts; first += kRows) {
      const Index n = std::min(kRows, n_counts - first);
      kernels().rows.log_rising(n, r, counts_.data() + first, values, slopes);
      total += kernels().dot(n, values, weight_of_count_.data() + first);
      slope += kernels().dot(n, slopes, weight_of_count_.data() + first);
    }
    if (grads[0] != nullptr) *grads[0] = slope + sums[1];
    return base() + total + sums[0];
  }

 private:
  bool supports(Index row) const override { return is_count(y_of(row)); }

  double prepare() override {
    std::map<double, double> found;
    for (Index i = 0; i < data_.n; ++i) {
      const double w = weight(i), count = y_of(i);
      if (w != 0.0 && count > 0.0 && supports(i)) found[count] += w;
    }
    counts_.clear();
    weight_of_count_.clear();
    for (const auto& [count, w] : found) {
      counts_.push_back(count);
      weight_of_count_.push_back(w);
    }
    return sum_of_base(*find_density(kernels(), "negative_binomial_logits"), nullptr, false);
  }

  std::vector<double> counts_, weight_of_count_;  // that occur, but for 0
};

}  // namespace klqp
