// CheckedLikelihood: rows outside the support are found once, when data are set, and left out of the loops.
#pragma once

#include <array>
#include <cmath>
#include <vector>

#include "kernels/kernels.hpp"
#include "model/fused/likelihoods/likelihood.hpp"
#include "model/fused/row_partition.hpp"

namespace klqp {

// For one column of eta.
class CheckedLikelihood : public GlmLikelihood {
 public:
  CheckedLikelihood(const char* name, std::size_t n_parameters, GlmData data) : GlmLikelihood(std::move(data)) {
    require_parameters(n_parameters);
    if (data_.k != 1) throw ConfigError(std::string(name) + " wants a predictor of one column");
  }

  void data_changed() final {
    total_weight_ = outside_ = 0.0;
    own_weights_.clear();
    for (Index i = 0; i < data_.n; ++i) {
      const double w = weight(i), y = y_of(i);
      if (w != 0.0 && !supports(i)) {
        outside_ += std::isnan(y) ? y : kMinusInfinity;
        leave_out(i);
      } else {
        total_weight_ += w;
      }
    }
    base_ = outside_ + prepare();
  }

 protected:
  static constexpr Index kRows = RowPartition::kMostRows;

  virtual bool supports(Index row) const = 0;
  // Works out what depends on data alone; returns the part of the log density that does.
  virtual double prepare() { return 0.0; }

  double y_of(Index row) const noexcept { return data_.value->value[row]; }
  // The values and the weights of the rows from `first` on.
  const double* y(Index first) const noexcept { return data_.value->value + first; }
  const double* weights(Index first) const noexcept {
    if (!own_weights_.empty()) return own_weights_.data() + first;
    return data_.weight != nullptr ? data_.weight->value + first : kOnes.data();
  }
  double parameter(std::size_t j, Index draw) const noexcept { return *data_.parameters[j]->at(draw); }
  // Whether all weights are 1 and all rows in the support.
  bool plain() const noexcept { return own_weights_.empty() && data_.weight == nullptr; }
  double total_weight() const noexcept { return total_weight_; }
  // What depends on data alone; -infinity or NaN where a row is outside the support.
  double base() const noexcept { return base_; }

  // The weighted sum over rows of a density's log_base (docs/kernels.md), which reads y and one argument at most.
  double sum_of_base(const DensityKernel& density, const double* argument, bool scalar) const noexcept {
    double total = 0.0, tile[kRows];
    for (Index first = 0; first < data_.n; first += kRows) {
      const Index n = std::min(kRows, data_.n - first);
      const double* const args[] = {y(first), argument == nullptr || scalar ? argument : argument + first};
      density.log_base(n, args, scalar ? 2u : 0u, tile);
      const double* const w = weights(first);
      for (Index i = 0; i < n; ++i) tile[i] = weighted(w[i], tile[i]);
      total += kernels().sum(n, tile);
    }
    return total;
  }

  static constexpr std::array<double, kRows> kOnes = [] {
    std::array<double, kRows> ones{};
    ones.fill(1.0);
    return ones;
  }();

 private:
  void leave_out(Index row) {
    if (own_weights_.empty()) {
      own_weights_.resize(static_cast<std::size_t>(data_.n));
      for (Index i = 0; i < data_.n; ++i) own_weights_[static_cast<std::size_t>(i)] = weight(i);
    }
    own_weights_[static_cast<std::size_t>(row)] = 0.0;
  }

  std::vector<double> own_weights_;  // where rows are left out
  double total_weight_ = 0.0, outside_ = 0.0, base_ = 0.0;
};

inline bool is_count(double x) noexcept { return x >= 0.0 && x == std::floor(x) && std::isfinite(x); }
inline bool is_positive(double x) noexcept { return x > 0.0 && std::isfinite(x); }

}  // namespace klqp
