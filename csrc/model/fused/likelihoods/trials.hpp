// The Bernoulli and the binomial likelihood, eta the log odds of a success.
#pragma once

#include <algorithm>

#include "model/fused/likelihoods/checked.hpp"

namespace klqp {

class BernoulliRows final : public CheckedLikelihood {
 public:
  explicit BernoulliRows(GlmData data) : CheckedLikelihood("bernoulli_logits", 0, std::move(data)) {}

  Index n_sums() const noexcept override { return 1; }

  void add(Index, Index first, Index n, double* eta, Index, bool, double* sums) const noexcept override {
    *sums += plain() ? kernels().rows.bernoulli(n, y(first), eta)
                     : kernels().rows.binomial(n, y(first), kOnes.data(), weights(first), eta);
  }

  double finish(Index, const double* sums, double* const*) const noexcept override { return base() + *sums; }

 private:
  bool supports(Index row) const override { return y_of(row) == 0.0 || y_of(row) == 1.0; }
};

// The parameter is the number of trials: data, one number or one for each row.
class BinomialRows final : public CheckedLikelihood {
 public:
  explicit BinomialRows(GlmData data) : CheckedLikelihood("binomial_logits", 1, std::move(data)) {
    if (!trials().fixed || (trials().size != 1 && trials().size != data_.n)) {
      throw ConfigError("the numbers of trials must be data, one or one for each row");
    }
    one_ = trials().size == 1;
  }

  Index n_sums() const noexcept override { return 1; }

  void add(Index, Index first, Index n, double* eta, Index, bool, double* sums) const noexcept override {
    const double* const counts = one_ ? same_.data() : trials().value + first;
    *sums += kernels().rows.binomial(n, y(first), counts, weights(first), eta);
  }

  double finish(Index, const double* sums, double* const* grads) const noexcept override {
    if (grads[0] != nullptr) *grads[0] = 0.0;
    return legal_ ? base() + *sums : kNaN;
  }

 private:
  const Slot& trials() const noexcept { return *data_.parameters[0]; }
  double trials_of(Index row) const noexcept { return trials().value[one_ ? 0 : row]; }

  bool supports(Index row) const override { return is_count(y_of(row)) && y_of(row) <= trials_of(row); }

  double prepare() override {
    legal_ = true;
    for (Index i = 0; i < data_.n; ++i) legal_ = legal_ && (weight(i) == 0.0 || is_count(trials_of(i)));
    if (one_) same_.fill(trials_of(0));
    return sum_of_base(*find_density(kernels(), "binomial_logits"), trials().value, one_);
  }

  bool one_ = false, legal_ = true;
  std::array<double, kRows> same_{};  // one number of trials for all rows
};

}  // namespace klqp
