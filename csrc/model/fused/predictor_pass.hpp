// PredictorPass: the linear predictor of a block of rows for several draws, and the way back to what it is made of.
#pragma once

#include <algorithm>
#include <array>
#include <vector>

#include "model/fused/predictor.hpp"
#include "model/node.hpp"

namespace klqp {

// Derivatives by the terms are kept for each draw in one array (R, n_gradients): a part for each term with a gradient.
// Threads that work on different rows have arrays of their own, which are added up later; what has a number for each
// row of the predictor needs no sum and is kept here.
class PredictorPass {
 public:
  static constexpr std::size_t kMostMatrices = 16;
  using Loaded = std::array<LoadedBlock, kMostMatrices>;

  explicit PredictorPass(PredictorTerms terms) : terms_(std::move(terms)) {
    terms_.check();
    if (terms_.matrices.size() > kMostMatrices) throw ConfigError("a predictor has at most 16 design matrices");
    for (const MatrixTerm& term : terms_.matrices) {
      matrix_parts_.push_back(part_of(*term.coef));
      width_ += term.matrix->cols();
    }
    if (terms_.rows != nullptr) {
      Index end = terms_.matrices.empty() ? 1 : std::numeric_limits<Index>::max();
      for (const MatrixTerm& term : terms_.matrices) {
        if (term.data == nullptr) end = std::min(end, term.matrix->rows());
      }
      rows_ = RowNumbers(terms_.rows, end);
    }
    for (const GatherTerm& term : terms_.gathers) {
      gather_parts_.push_back(part_of(*term.table));
      gathered_.emplace_back(term.index, term.table->size);
    }
    for (const Slot* slot : terms_.added) {
      added_parts_.push_back(by_row(*slot) ? Part{} : part_of(*slot));
    }
    by_row_.resize(terms_.added.size());
    panels_.resize(terms_.matrices.size());
    panel_bytes_.resize(terms_.matrices.size());
  }

  Index n() const noexcept { return terms_.n; }
  Index k() const noexcept { return terms_.k; }
  Index n_gradients() const noexcept { return n_gradients_; }
  // Numbers of all matrices in a row.
  Index width() const noexcept { return std::max<Index>(1, width_); }
  // Draws that are worked on together.
  Index group() const noexcept { return group_; }
  // Bytes of scratch of load() for a block of n rows.
  Index scratch_bytes(Index n) const noexcept {
    Index total = 0;
    for (const MatrixTerm& term : terms_.matrices) total += scratch_bytes(term, n);
    return total;
  }

  // Room for R draws.
  void reserve(Index n_rows) {
    n_rows_ = n_rows;
    group_ = std::min(n_rows, std::max<Index>(1, kColumnsTogether / k()));
    for (std::size_t t = 0; t < panels_.size(); ++t) {
      const MatrixTerm& term = terms_.matrices[t];
      panel_bytes_[t] = term.matrix->panel_bytes(group_ * k());
      panels_[t].resize(static_cast<std::size_t>(panel_bytes_[t] * ((n_rows + group_ - 1) / group_)));
      if (needs_copy(*term.coef))
        ordered_.resize(std::max(ordered_.size(), static_cast<std::size_t>(group_ * term.coef->size)));
    }
    for (std::size_t t = 0; t < by_row_.size(); ++t) {
      const Slot& slot = *terms_.added[t];
      if (slot.active && by_row(slot)) by_row_[t].resize(static_cast<std::size_t>(n_rows * slot.size));
    }
  }

  void data_changed() {
    rows_.data_changed();
    for (RowNumbers& index : gathered_) index.data_changed();
  }

  // Arranges the coefficients.
  void begin() noexcept {
    for (std::size_t t = 0; t < panels_.size(); ++t) {
      const MatrixTerm& term = terms_.matrices[t];
      for (Index s = 0; s < n_rows_; s += group_) {
        const Index g = std::min(group_, n_rows_ - s);
        term.matrix->pack(g * k(), coefs(*term.coef, s, g), panel(t, s));
      }
    }
  }

  void load(Index first, Index n, std::byte* scratch, Loaded& loaded) const noexcept {
    for (std::size_t t = 0; t < terms_.matrices.size(); ++t) {
      const MatrixTerm& term = terms_.matrices[t];
      loaded[t] = term.matrix->load({first, n, indexed(term) ? rows_.data() : nullptr}, scratch);
      scratch += scratch_bytes(term, n);
    }
  }

  // eta (g * k, n), rows `ld` apart, of draws s, ..., s + g - 1
  void predict(const Loaded& loaded, Index first, Index n, Index s, Index g, double* eta, Index ld) const noexcept {
    for (Index r = 0; r < g * k(); ++r) std::fill_n(eta + r * ld, n, 0.0);
    for (const Slot* slot : terms_.added) {
      for (Index r = 0; r < g; ++r) add_term(*slot, s + r, first, n, eta + r * k() * ld, ld);
    }
    for (std::size_t t = 0; t < terms_.gathers.size(); ++t) {
      for (Index r = 0; r < g; ++r) gather(t, s + r, first, n, eta + r * ld);
    }
    for (std::size_t t = 0; t < terms_.matrices.size(); ++t) {
      terms_.matrices[t].matrix->add_product(loaded[t], g * k(), panel(t, s), eta, ld);
    }
  }

  // Adds the derivatives from those by eta to gradients (R, n_gradients).
  void add_gradients(const Loaded& loaded, Index first, Index n, Index s, Index g, const double* residual, Index ld,
                     double* gradients) noexcept {
    for (std::size_t t = 0; t < terms_.matrices.size(); ++t) {
      if (!terms_.matrices[t].coef->active) continue;
      const Index size = terms_.matrices[t].coef->size;
      terms_.matrices[t].matrix->add_gradient(loaded[t], g * k(), residual, ld,
                                              gradients + matrix_parts_[t].begin * n_rows_ + s * size);
    }
    for (std::size_t t = 0; t < terms_.gathers.size(); ++t) {
      const GatherTerm& term = terms_.gathers[t];
      if (!term.table->active) continue;
      for (Index r = 0; r < g; ++r) {
        scatter(t, first, n, residual + r * ld,
                gradients + gather_parts_[t].begin * n_rows_ + (s + r) * term.table->size);
      }
    }
    for (std::size_t t = 0; t < terms_.added.size(); ++t) {
      const Slot& slot = *terms_.added[t];
      if (!slot.active) continue;
      for (Index r = 0; r < g; ++r) {
        const double* const from = residual + r * k() * ld;
        if (by_row(slot)) {
          double* const to = by_row_[t].data() + (s + r) * slot.size + first * k();
          for (Index c = 0; c < k(); ++c) {
            for (Index i = 0; i < n; ++i) to[i * k() + c] = from[c * ld + i];
          }
        } else {
          double* const to = gradients + added_parts_[t].begin * n_rows_ + (s + r) * slot.size;
          for (Index c = 0; c < k(); ++c) to[slot.size == 1 ? 0 : c] += kernels().sum(n, from + c * ld);
        }
      }
    }
  }

  // adjoint of each term += factor * its derivatives for draw s
  void pull(Index s, double factor, const double* gradients) const noexcept {
    for (std::size_t t = 0; t < terms_.matrices.size(); ++t) {
      const MatrixTerm& term = terms_.matrices[t];
      if (term.coef->active) pull_matrix(term, s, factor, gradients + matrix_parts_[t].begin * n_rows_);
    }
    for (std::size_t t = 0; t < terms_.gathers.size(); ++t) {
      const Slot& table = *terms_.gathers[t].table;
      if (!table.active) continue;
      kernels().axpy(table.size, factor, gradients + gather_parts_[t].begin * n_rows_ + s * table.size,
                     table.adjoint_at(s));
    }
    for (std::size_t t = 0; t < terms_.added.size(); ++t) {
      const Slot& slot = *terms_.added[t];
      if (!slot.active) continue;
      const double* const from = by_row(slot) ? by_row_[t].data() + s * slot.size
                                              : gradients + added_parts_[t].begin * n_rows_ + s * slot.size;
      kernels().axpy(slot.size, factor, from, slot.adjoint_at(s));
    }
  }

 private:
  static constexpr Index kColumnsTogether = 32;  // of eta: a block of them stays in cache beside the rows

  // Where a term's derivatives begin, for one draw.
  struct Part {
    Index begin = 0;
  };

  Part part_of(const Slot& slot) {
    const Part part{n_gradients_};
    if (slot.active) n_gradients_ += slot.size;
    return part;
  }

  bool indexed(const MatrixTerm& term) const noexcept { return terms_.rows != nullptr && term.data == nullptr; }
  // Whether a term has a number for each row.
  bool by_row(const Slot& slot) const noexcept { return slot.size != 1 && slot.size != k(); }
  Index scratch_bytes(const MatrixTerm& term, Index n) const noexcept {
    return term.matrix->scratch_bytes(n, group_ * k(), indexed(term));
  }
  std::byte* panel(std::size_t t, Index s) noexcept { return panels_[t].data() + s / group_ * panel_bytes_[t]; }
  const std::byte* panel(std::size_t t, Index s) const noexcept {
    return panels_[t].data() + s / group_ * panel_bytes_[t];
  }

  // Coefficients of g draws as (g * k, d).
  bool needs_copy(const Slot& coef) const noexcept { return k() > 1 || (!coef.per_draw && group_ > 1); }
  const double* coefs(const Slot& coef, Index s, Index g) noexcept {
    if (!needs_copy(coef)) return coef.at(s);
    const Index d = coef.size / k();
    for (Index r = 0; r < g; ++r) {
      const double* const from = coef.at(s + r);
      double* const to = ordered_.data() + r * coef.size;
      for (Index c = 0; c < k(); ++c) {
        for (Index j = 0; j < d; ++j) to[c * d + j] = from[j * k() + c];
      }
    }
    return ordered_.data();
  }

  // The same for the coefficients of a matrix, from their part of the gradients.
  void pull_matrix(const MatrixTerm& term, Index s, double factor, const double* part) const noexcept {
    const Slot& coef = *term.coef;
    const Index first = s / group_ * group_, d = coef.size / k();
    const Index m = std::min(group_, n_rows_ - first) * k();
    const double* const from = part + first * coef.size;
    double* const to = coef.adjoint_at(s);
    const Index row = (s - first) * k();
    if (k() == 1 && !term.matrix->by_column()) return kernels().axpy(d, factor, from + row * d, to);
    const Index step = term.matrix->by_column() ? m : 1, row_step = term.matrix->by_column() ? 1 : d;
    for (Index j = 0; j < d; ++j) {
      for (Index c = 0; c < k(); ++c) to[j * k() + c] += factor * from[j * step + (row + c) * row_step];
    }
  }

  void add_term(const Slot& slot, Index s, Index first, Index n, double* eta, Index ld) const noexcept {
    const double* const x = slot.at(s);
    for (Index c = 0; c < k(); ++c) {
      double* const to = eta + c * ld;
      if (by_row(slot)) {
        for (Index i = 0; i < n; ++i) to[i] += x[(first + i) * k() + c];
      } else {
        const double constant = x[slot.size == 1 ? 0 : c];
        for (Index i = 0; i < n; ++i) to[i] += constant;
      }
    }
  }

  void gather(std::size_t t, Index s, Index first, Index n, double* eta) const noexcept {
    const GatherTerm& term = terms_.gathers[t];
    const double* const table = term.table->at(s);
    const Index* const index = gathered_[t].data() + first;
    if (term.covariate == nullptr) {
      for (Index i = 0; i < n; ++i) eta[i] += table[index[i]];
    } else {
      const double* const x = term.covariate->value + first;
      for (Index i = 0; i < n; ++i) eta[i] += table[index[i]] * x[i];
    }
  }

  void scatter(std::size_t t, Index first, Index n, const double* residual, double* to) const noexcept {
    const GatherTerm& term = terms_.gathers[t];
    const Index* const index = gathered_[t].data() + first;
    if (term.covariate == nullptr) {
      for (Index i = 0; i < n; ++i) to[index[i]] += residual[i];
    } else {
      const double* const x = term.covariate->value + first;
      for (Index i = 0; i < n; ++i) to[index[i]] += residual[i] * x[i];
    }
  }

  PredictorTerms terms_;
  RowNumbers rows_;
  std::vector<RowNumbers> gathered_;
  std::vector<Part> matrix_parts_, gather_parts_, added_parts_;
  std::vector<std::vector<std::byte>> panels_;  // arranged coefficients by matrix, of one group of draws after another
  std::vector<Index> panel_bytes_;              // of a group
  std::vector<double> ordered_;                 // coefficients (g * k, d)
  std::vector<std::vector<double>> by_row_;  // (R, n * k) by added term: derivatives by what has a number for each row
  Index n_gradients_ = 0, width_ = 0, n_rows_ = 0, group_ = 1;
};

}  // namespace klqp
