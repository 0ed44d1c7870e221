// Likelihoods that are elementwise densities of the value, the predictor one of their parameters.
#pragma once

#include <algorithm>
#include <array>

#include "kernels/kernels.hpp"
#include "model/fused/likelihoods/likelihood.hpp"
#include "model/fused/row_partition.hpp"

namespace klqp {

// Where the density takes its arguments from: the value is argument 0, eta argument `eta`, the others are the
// parameters in order.
struct ElementwiseForm {
  const char* density;
  std::size_t eta;
};

class ElementwiseLikelihood : public GlmLikelihood {
 public:
  ElementwiseLikelihood(ElementwiseForm form, GlmData data)
      : GlmLikelihood(std::move(data)), kernel_(*find_density(kernels(), form.density)), eta_(form.eta) {
    require_parameters(static_cast<std::size_t>(kernel_.n_args) - 2);
    if (data_.k != 1) throw ConfigError(std::string(kernel_.name) + " wants a predictor of one column");
    for (std::size_t k = 1; k < n_args(); ++k) {
      if (k == eta_) continue;
      const Slot& x = parameter_of(k);
      if (x.size != 1 && (x.size != data_.n || !x.fixed)) {
        throw ConfigError("a parameter of the likelihood must be one number, or data of one number for each row");
      }
      if ((kernel_.base_args >> k & 1u) != 0 && !x.fixed) {
        throw ConfigError("a count of trials must be data");
      }
    }
  }

  Index n_sums() const noexcept override { return 1 + static_cast<Index>(data_.parameters.size()); }

  void data_changed() override {
    base_ = 0.0;
    if (kernel_.log_base == nullptr) return;
    for (Index first = 0; first < data_.n; first += kRows) {
      const Index n = std::min(kRows, data_.n - first);
      double tile[kRows];
      const Arguments at = arguments(0, first, nullptr);
      kernel_.log_base(n, at.args.data(), at.scalars, tile);
      apply_weights(first, n, tile);
      base_ += kernels().sum(n, tile);
    }
  }

  void add(Index draw, Index first, Index n, double* eta, Index, bool gradients, double* sums) const noexcept override {
    const Arguments at = arguments(draw, first, eta);
    double log_p[kRows], tiles[kMostArgs][kRows];
    if (!gradients) {
      kernel_.log_prob(n, at.args.data(), at.scalars, log_p);
    } else {
      std::array<double*, kMostArgs> grads{};
      for (std::size_t k = 1; k < n_args(); ++k) {
        if (k == eta_ || parameter_of(k).size == 1) grads[k] = tiles[k];
      }
      kernel_.log_prob_and_gradient(n, at.args.data(), at.scalars, log_p, grads.data());
      for (std::size_t k = 1; k < n_args(); ++k) {
        if (grads[k] == nullptr) continue;
        apply_weights(first, n, tiles[k]);
        if (k != eta_) sums[sum_of(k)] += kernels().sum(n, tiles[k]);
      }
      std::copy_n(tiles[eta_], n, eta);
    }
    apply_weights(first, n, log_p);
    sums[0] += kernels().sum(n, log_p);
  }

  double finish(Index, const double* sums, double* const* grads) const noexcept override {
    for (std::size_t j = 0; j < data_.parameters.size(); ++j) {
      if (grads[j] != nullptr) *grads[j] = sums[j + 1];
    }
    return sums[0] + base_;
  }

 protected:
  static constexpr Index kRows = RowPartition::kMostRows;

 private:
  static constexpr std::size_t kMostArgs = 4;

  struct Arguments {
    std::array<const double*, kMostArgs> args{};
    unsigned scalars = 0;
  };

  Arguments arguments(Index draw, Index first, const double* eta) const noexcept {
    Arguments out;
    out.args[0] = data_.value->value + first;
    for (std::size_t k = 1; k < n_args(); ++k) {
      if (k == eta_) {
        out.args[k] = eta;
        continue;
      }
      const Slot& x = parameter_of(k);
      out.args[k] = x.at(draw) + (x.size == 1 ? 0 : first);
      if (x.size == 1) out.scalars |= 1u << k;
    }
    return out;
  }

  std::size_t n_args() const noexcept { return static_cast<std::size_t>(kernel_.n_args); }
  // Argument k, not the value and not eta.
  std::size_t sum_of(std::size_t k) const noexcept { return k < eta_ ? k : k - 1; }
  const Slot& parameter_of(std::size_t k) const noexcept { return *data_.parameters[sum_of(k) - 1]; }

  const DensityKernel& kernel_;
  std::size_t eta_;
  double base_ = 0.0;
};

}  // namespace klqp
