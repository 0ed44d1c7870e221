// Trace: what every step measured, one column per quantity.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "core/state.hpp"

namespace klqp {

struct TraceRow {
  double loss;           // minus the ELBO estimate
  double std_error;      // of the loss; NaN where a step's draws give none
  double log_p;          // mean log density of the accepted draws
  double entropy;        // of q
  double log_lik;        // the data's part of log_p
  double kl;             // divergences by formula
  double penalty;        // of the regularisers
  double grad_norm;      // Euclidean, before clipping
  double learning_rate;  // as used, after backing off
  double n_rejected;     // draws whose log density or gradient was not finite
};

class Trace {
 public:
  static constexpr std::size_t kColumns = 10;
  static constexpr std::array<const char*, kColumns> kNames = {
      "loss", "std_error", "log_p", "entropy", "log_lik", "kl", "penalty", "grad_norm", "learning_rate", "n_rejected"};

  void add(const TraceRow& row) {
    const std::array<double, kColumns> values = {row.loss,          row.std_error, row.log_p,   row.entropy,
                                                 row.log_lik,       row.kl,        row.penalty, row.grad_norm,
                                                 row.learning_rate, row.n_rejected};
    for (std::size_t i = 0; i < values.size(); ++i) columns_[i].push_back(values[i]);
  }
  // Makes sure that the next n rows need no allocation.
  void reserve(std::size_t n) {
    for (auto& column : columns_) {
      if (column.capacity() < column.size() + n) column.reserve(std::max(2 * column.size(), column.size() + n));
    }
  }
  // Forgets the rows and keeps the room.
  void clear() noexcept {
    for (auto& column : columns_) column.clear();
  }
  std::size_t size() const noexcept { return columns_[0].size(); }
  const std::vector<double>& loss() const noexcept { return columns_[0]; }
  const std::vector<double>& column(std::size_t i) const noexcept { return columns_[i]; }

  void visit_state(StateVisitor& visitor) {
    for (std::size_t i = 0; i < kNames.size(); ++i) visitor.array(std::string("trace/") + kNames[i], columns_[i]);
  }

 private:
  std::array<std::vector<double>, kColumns> columns_;
};

}  // namespace klqp
