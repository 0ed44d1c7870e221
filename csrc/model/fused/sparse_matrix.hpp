// Sparse design matrices in compressed rows (CSR).
#pragma once

#include <algorithm>

#include "model/fused/design_matrix.hpp"

namespace klqp {

// Row i has values data[begin[i]...begin[i + 1]) in the columns `columns` of the same places; the arrays belong to
// `owner`. The constructor checks them.
template <class T, class I>
class SparseMatrix final : public DesignMatrix {
 public:
  SparseMatrix(const T* data, const I* columns, const I* begin, Index rows, Index cols, Index n_stored,
               std::shared_ptr<void> owner)
      : DesignMatrix(rows, cols), data_(data), columns_(columns), begin_(begin), owner_(std::move(owner)) {
    bool legal = begin[0] == 0;
    for (Index i = 0; i < rows; ++i) legal = legal && begin[i] <= begin[i + 1];
    if (!legal || begin[rows] > n_stored) throw ConfigError("indptr of a sparse matrix must rise from 0 to the end");
    for (Index at = 0; at < static_cast<Index>(begin[rows]); ++at) {
      if (columns[at] < 0 || columns[at] >= cols) throw ConfigError("a sparse matrix has a column index out of range");
    }
  }

  // Coefficients and gradients of a column lie together: (cols, m).
  Index panel_bytes(Index m) const noexcept override { return m * cols() * static_cast<Index>(sizeof(double)); }
  void pack(Index m, const double* coef, std::byte* panel) const noexcept override {
    double* const to = reinterpret_cast<double*>(panel);
    for (Index r = 0; r < m; ++r) {
      for (Index j = 0; j < cols(); ++j) to[j * m + r] = coef[r * cols() + j];
    }
  }
  bool by_column() const noexcept override { return true; }

  Index scratch_bytes(Index, Index m, bool) const noexcept override { return m * static_cast<Index>(sizeof(double)); }
  LoadedBlock load(RowBlock rows, std::byte* scratch) const noexcept override { return {rows, nullptr, 0, 0, scratch}; }

  void add_product(const LoadedBlock& block, Index m, const std::byte* panel, double* eta,
                   Index ld) const noexcept override {
    const double* const coef = reinterpret_cast<const double*>(panel);
    double* const sums = reinterpret_cast<double*>(block.spare);
    for (Index i = 0; i < block.rows.n; ++i) {
      std::fill_n(sums, m, 0.0);
      for_row(block.rows.row(i), [&](Index column, double x) {
        const double* const of_column = coef + column * m;
        for (Index r = 0; r < m; ++r) sums[r] += x * of_column[r];
      });
      for (Index r = 0; r < m; ++r) eta[r * ld + i] += sums[r];
    }
  }

  void add_gradient(const LoadedBlock& block, Index m, const double* residual, Index ld,
                    double* grad) const noexcept override {
    double* const of_row = reinterpret_cast<double*>(block.spare);
    for (Index i = 0; i < block.rows.n; ++i) {
      for (Index r = 0; r < m; ++r) of_row[r] = residual[r * ld + i];
      for_row(block.rows.row(i), [&](Index column, double x) {
        double* const to = grad + column * m;
        for (Index r = 0; r < m; ++r) to[r] += x * of_row[r];
      });
    }
  }

 private:
  template <class Body>
  void for_row(Index row, const Body& body) const noexcept {
    for (I at = begin_[row]; at < begin_[row + 1]; ++at) {
      body(static_cast<Index>(columns_[at]), static_cast<double>(data_[at]));
    }
  }

  const T* data_;
  const I* columns_;
  const I* begin_;
  std::shared_ptr<void> owner_;
};

}  // namespace klqp
