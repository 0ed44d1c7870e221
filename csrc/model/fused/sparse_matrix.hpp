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

  Index panel_bytes(Index m) const noexcept override { return m * cols() * static_cast<Index>(sizeof(double)); }
  void pack(Index m, const double* coef, std::byte* panel) const noexcept override {
    std::copy_n(coef, m * cols(), reinterpret_cast<double*>(panel));
  }

  Index scratch_bytes(Index, Index, bool) const noexcept override { return 0; }
  LoadedBlock load(RowBlock rows, std::byte* scratch) const noexcept override { return {rows, nullptr, 0, 0, scratch}; }

  void add_product(const LoadedBlock& block, Index m, const std::byte* panel, double* eta,
                   Index ld) const noexcept override {
    for (Index r = 0; r < m; ++r) {
      const double* const beta = reinterpret_cast<const double*>(panel) + r * cols();
      for (Index i = 0; i < block.rows.n; ++i) {
        const Index row = block.rows.row(i);
        double sum = 0.0;
        for (I at = begin_[row]; at < begin_[row + 1]; ++at) sum += static_cast<double>(data_[at]) * beta[columns_[at]];
        eta[r * ld + i] += sum;
      }
    }
  }

  void add_gradient(const LoadedBlock& block, Index m, const double* residual, Index ld,
                    double* grad) const noexcept override {
    for (Index r = 0; r < m; ++r) {
      double* const to = grad + r * cols();
      for (Index i = 0; i < block.rows.n; ++i) {
        const Index row = block.rows.row(i);
        const double x = residual[r * ld + i];
        for (I at = begin_[row]; at < begin_[row + 1]; ++at) to[columns_[at]] += static_cast<double>(data_[at]) * x;
      }
    }
  }

 private:
  const T* data_;
  const I* columns_;
  const I* begin_;
  std::shared_ptr<void> owner_;
};

}  // namespace klqp
