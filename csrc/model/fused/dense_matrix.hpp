// Dense design matrices: of either precision, in any order of memory, in the caller's memory or in a program's data.
#pragma once

#include <algorithm>
#include <type_traits>

#include "model/fused/design_matrix.hpp"
#include "model/slot.hpp"

namespace klqp {

// Element (i, j) at data[i * row_stride + j * col_stride]; `owner` keeps the memory alive. Blocks of contiguous rows
// are used where they are, others are copied row by row.
template <class T>
class DenseMatrix : public DesignMatrix {
 public:
  struct Layout {
    Index row_stride, col_stride;
  };

  DenseMatrix(const T* data, Index rows, Index cols, Layout layout, std::shared_ptr<void> owner)
      : DesignMatrix(rows, cols), data_(data), layout_(layout), owner_(std::move(owner)) {}

  Index panel_bytes(Index m) const noexcept override { return bytes(design().panel_size(m, cols())); }
  void pack(Index m, const double* coef, std::byte* panel) const noexcept override {
    design().pack(m, cols(), coef, reinterpret_cast<T*>(panel));
  }

  Index scratch_bytes(Index n, Index m, bool indexed) const noexcept override {
    return (in_place(indexed) ? 0 : bytes(n * cols())) + (kConverts ? bytes(n * m) : 0);
  }

  LoadedBlock load(RowBlock rows, std::byte* scratch) const noexcept override {
    const T* const x = data();
    if (in_place(rows.index != nullptr)) {
      const Index n_next = std::min(rows.n, this->rows() - (rows.first + rows.n));
      return {rows, x + rows.first * layout_.row_stride, layout_.row_stride, n_next, scratch};
    }
    T* const copy = reinterpret_cast<T*>(scratch);
    if (layout_.col_stride == 1) {
      for (Index i = 0; i < rows.n; ++i) std::copy_n(x + rows.row(i) * layout_.row_stride, cols(), copy + i * cols());
    } else {
      copy_columns(rows, x, copy);
    }
    return {rows, copy, cols(), 0, scratch + bytes(rows.n * cols())};
  }

  void add_product(const LoadedBlock& block, Index m, const std::byte* panel, double* eta,
                   Index ld) const noexcept override {
    design().predict(block.rows.n, cols(), m, static_cast<const T*>(block.data), block.stride,
                     reinterpret_cast<const T*>(panel), eta, ld);
  }

  void add_gradient(const LoadedBlock& block, Index m, const double* residual, Index ld,
                    double* grad) const noexcept override {
    const Index n = block.rows.n;
    const T* const x = static_cast<const T*>(block.data);
    if constexpr (kConverts) {
      T* const rounded = reinterpret_cast<T*>(block.spare);
      for (Index r = 0; r < m; ++r) {
        for (Index i = 0; i < n; ++i) rounded[r * n + i] = static_cast<T>(residual[r * ld + i]);
      }
      design().gradient(n, cols(), m, rounded, n, x, block.stride, block.n_next, grad, cols());
    } else {
      design().gradient(n, cols(), m, residual, ld, x, block.stride, block.n_next, grad, cols());
    }
  }

 protected:
  virtual const T* data() const noexcept { return data_; }

 private:
  static constexpr bool kConverts = !std::is_same_v<T, double>;

  static const DesignKernels<T>& design() noexcept {
    if constexpr (kConverts) {
      return kernels().design_f32;
    } else {
      return kernels().design;
    }
  }
  static constexpr Index bytes(Index count) noexcept {
    constexpr Index kAligned = 64;
    return (count * static_cast<Index>(sizeof(T)) + kAligned - 1) / kAligned * kAligned;
  }

  bool in_place(bool indexed) const noexcept { return layout_.col_stride == 1 && !indexed; }

  // Some columns at a time, so that the pieces of rows that are written stay in the first cache.
  void copy_columns(const RowBlock& rows, const T* x, T* copy) const noexcept {
    constexpr Index kTogether = 8;
    for (Index from = 0; from < cols(); from += kTogether) {
      const Index end = std::min(cols(), from + kTogether);
      for (Index i = 0; i < rows.n; ++i) {
        const T* const row = x + rows.row(i) * layout_.row_stride;
        for (Index j = from; j < end; ++j) copy[i * cols() + j] = row[j * layout_.col_stride];
      }
    }
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
