// GlmLikelihood: the log density of data given a linear predictor, summed over rows.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "core/errors.hpp"
#include "core/limits.hpp"
#include "model/slot.hpp"

namespace klqp {

// What a likelihood reads. `weight` has a factor for each row; null: all are 1 (a single factor is the node's
// business).
struct GlmData {
  Index n = 0, k = 1;  // rows, columns of the predictor
  const Slot* value = nullptr;
  std::vector<const Slot*> parameters;
  const Slot* weight = nullptr;
};

// Rows outside the support have the log density -infinity and derivatives of 0; NaN gives NaN; a weight of 0 leaves a
// row out whatever its density. The constructor throws ConfigError where sizes do not fit.
class GlmLikelihood {
 public:
  explicit GlmLikelihood(GlmData data) : data_(std::move(data)) {}
  virtual ~GlmLikelihood() = default;
  GlmLikelihood(const GlmLikelihood&) = delete;
  GlmLikelihood& operator=(const GlmLikelihood&) = delete;

  // Numbers that add() sums up: the log density first.
  virtual Index n_sums() const noexcept = 0;
  // What the data alone decide is worked out here.
  virtual void data_changed() {}
  // Rows [first, first + n), n at most RowPartition::kMostRows, of a draw with eta (k, n), columns `ld` apart: adds to
  // sums. With `gradients` eta becomes the derivatives by eta, times the weights.
  virtual void add(Index draw, Index first, Index n, double* eta, Index ld, bool gradients,
                   double* sums) const noexcept = 0;
  // From the sums over all rows to the log density; grads[j] = its derivatives by parameter j, where not null. Those
  // are meaningful only where `gradients` were asked for.
  virtual double finish(Index draw, const double* sums, double* const* grads) const noexcept = 0;

 protected:
  void require_parameters(std::size_t n) const {
    if (data_.parameters.size() == n) return;
    throw ConfigError("expected " + std::to_string(n) + " parameters of the likelihood, got " +
                      std::to_string(data_.parameters.size()));
  }
  double weight(Index row) const noexcept { return data_.weight == nullptr ? 1.0 : data_.weight->value[row]; }
  static double weighted(double weight, double x) noexcept { return weight == 0.0 ? 0.0 : weight * x; }
  // x (n) times the weights of the rows from `first` on.
  void apply_weights(Index first, Index n, double* x) const noexcept {
    if (data_.weight == nullptr) return;
    for (Index i = 0; i < n; ++i) x[i] = weighted(data_.weight->value[first + i], x[i]);
  }

  GlmData data_;
};

}  // namespace klqp
