// Dense design matrices: of either precision, in any order of memory, in the caller's memory or in a program's data.
#pragma once

#include "model/fused/design_matrix.hpp"
#include "model/slot.hpp"

namespace klqp {

// Element (i, j) at data[i * row_stride + j * col_stride]; `owner` keeps the memory alive.
template <class T>
class DenseMatrix : public DesignMatrix {
 public:
  struct Layout {
    Index row_stride, col_stride;
  };

  DenseMatrix(const T* data, Index rows, Index cols, Layout layout, std::shared_ptr<void> owner)
      : DesignMatrix(rows, cols), data_(data), layout_(layout), owner_(std::move(owner)) {}

  Index scratch_per_row(bool indexed) const noexcept override { return in_place(indexed) ? 0 : cols(); }

  LoadedBlock load(RowBlock rows, double* scratch) const noexcept override {
    const T* const x = data();
    if constexpr (std::is_same_v<T, double>) {
      if (in_place(rows.index != nullptr)) return {rows, x + rows.first * layout_.row_stride, layout_.row_stride};
    }
    for (Index i = 0; i < rows.n; ++i) {
      const T* const from = x + rows.row(i) * layout_.row_stride;
      double* const to = scratch + i * cols();
      for (Index j = 0; j < cols(); ++j) to[j] = static_cast<double>(from[j * layout_.col_stride]);
    }
    return {rows, scratch, cols()};
  }

  void add_product(const LoadedBlock& block, Index m, const double* coef, double* eta,
                   Index ld) const noexcept override {
    kernels().matmul_nt(m, block.rows.n, cols(), coef, cols(), block.data, block.stride, eta, ld);
  }

  void add_gradient(const LoadedBlock& block, Index m, const double* residual, Index ld,
                    double* grad) const noexcept override {
    kernels().matmul_nn(m, cols(), block.rows.n, residual, ld, block.data, block.stride, grad, cols());
  }

 protected:
  virtual const T* data() const noexcept { return data_; }

 private:
  bool in_place(bool indexed) const noexcept {
    return std::is_same_v<T, double> && layout_.col_stride == 1 && !indexed;
  }

  const T* data_;
  Layout layout_;
  std::shared_ptr<void> owner_;
};

// Data of a program as a matrix (rows, cols): where they are is known when they are read.
class DataMatrix final : public DenseMatrix<double> {
 public:
  DataMatrix(const Slot& slot, Index rows)
      : DenseMatrix(nullptr, rows, slot.size / rows, {slot.size / rows, 1}, nullptr), slot_(slot) {}

 protected:
  const double* data() const noexcept override { return slot_.value; }

 private:
  const Slot& slot_;
};

}  // namespace klqp
