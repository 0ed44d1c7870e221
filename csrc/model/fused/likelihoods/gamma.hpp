// The gamma likelihood with the mean exp(eta) and a concentration: log p = log Gamma(y; c, c exp(-eta)).
#pragma once

#include <algorithm>

#include "kernels/kernels.hpp"
#include "model/fused/likelihoods/likelihood.hpp"
#include "model/fused/row_partition.hpp"

namespace klqp {

class GammaLogLikelihood final : public GlmLikelihood {
 public:
  explicit GammaLogLikelihood(GlmData data) : GlmLikelihood(std::move(data)) {
    require_parameters(1);
    if (data_.k != 1) throw ConfigError("gamma_log wants a predictor of one column");
    const Slot& c = *data_.parameters[0];
    if (c.size != 1 && (c.size != data_.n || !c.fixed)) {
      throw ConfigError("a parameter of the likelihood must be one number, or data of one number for each row");
    }
  }

  Index n_sums() const noexcept override { return 2; }

  void add(Index draw, Index first, Index n, double* eta, Index, bool gradients, double* sums) const noexcept override {
    const Slot& c = *data_.parameters[0];
    double shape[kRows], rate[kRows], log_p[kRows], by_shape[kRows], by_rate[kRows];
    for (Index i = 0; i < n; ++i) shape[i] = c.size == 1 ? *c.at(draw) : c.value[first + i];
    for (Index i = 0; i < n; ++i) rate[i] = -eta[i];
    kernels().exp(n, rate, rate);
    for (Index i = 0; i < n; ++i) rate[i] *= shape[i];
    const double* const args[] = {data_.value->value + first, shape, rate};
    if (!gradients) {
      kernel_.log_prob(n, args, 0, log_p);
    } else {
      double* const grads[] = {nullptr, by_shape, by_rate};
      kernel_.log_prob_and_gradient(n, args, 0, log_p, grads);
      for (Index i = 0; i < n; ++i) {
        eta[i] = -rate[i] * by_rate[i];
        by_shape[i] -= eta[i] / shape[i];
      }
      apply_weights(first, n, eta);
      apply_weights(first, n, by_shape);
      sums[1] += kernels().sum(n, by_shape);
    }
    apply_weights(first, n, log_p);
    sums[0] += kernels().sum(n, log_p);
  }

  double finish(Index, const double* sums, double* const* grads) const noexcept override {
    if (grads[0] != nullptr) *grads[0] = sums[1];
    return sums[0];
  }

 private:
  static constexpr Index kRows = RowPartition::kMostRows;

  const DensityKernel& kernel_ = *find_density(kernels(), "gamma");
};

}  // namespace klqp
