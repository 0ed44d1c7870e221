// DesignMatrix: the rows of explanatory variables of a linear predictor, read in blocks where they lie.
#pragma once

#include <cstddef>
#include <memory>

#include "core/errors.hpp"
#include "core/view.hpp"

namespace klqp {

// The rows [first, first + n) of a predictor; `index` names the matrix's row of each, null where they are the same.
struct RowBlock {
  Index first = 0, n = 0;
  const Index* index = nullptr;

  Index row(Index i) const noexcept { return index == nullptr ? first + i : index[first + i]; }
};

// A block of rows at hand: where the matrix is dense, row-major numbers of its type, `stride` apart, with `n_next`
// more rows behind it that are wanted soon. `spare` is memory for the products.
struct LoadedBlock {
  RowBlock rows;
  const void* data = nullptr;
  Index stride = 0, n_next = 0;
  std::byte* spare = nullptr;
};

// Immutable, and shared by the nodes that read it. Nothing of it is copied but a block at a time. m is the number of
// linear predictors: draws times columns.
class DesignMatrix {
 public:
  DesignMatrix(Index rows, Index cols) : rows_(rows), cols_(cols) {
    if (rows < 1 || cols < 1) throw ConfigError("a design matrix must have rows and columns");
  }
  virtual ~DesignMatrix() = default;
  DesignMatrix(const DesignMatrix&) = delete;
  DesignMatrix& operator=(const DesignMatrix&) = delete;

  Index rows() const noexcept { return rows_; }
  Index cols() const noexcept { return cols_; }

  // Bytes of the arranged coefficients, and what arranges them: coef (m, cols).
  virtual Index panel_bytes(Index m) const noexcept = 0;
  virtual void pack(Index m, const double* coef, std::byte* panel) const noexcept = 0;

  // Bytes of scratch for a block of n rows, whether by index or not.
  virtual Index scratch_bytes(Index n, Index m, bool indexed) const noexcept = 0;
  // What the two products read; valid as long as scratch is.
  virtual LoadedBlock load(RowBlock rows, std::byte* scratch) const noexcept = 0;
  // eta (m, n), rows `ld` apart, += coef X^T of the block
  virtual void add_product(const LoadedBlock& block, Index m, const std::byte* panel, double* eta,
                           Index ld) const noexcept = 0;
  // Gradients have the layout (m, cols), or (cols, m) where by_column().
  virtual bool by_column() const noexcept { return false; }
  // grad += residual (m, n), rows `ld` apart, times X of the block
  virtual void add_gradient(const LoadedBlock& block, Index m, const double* residual, Index ld,
                            double* grad) const noexcept = 0;

 private:
  Index rows_, cols_;
};

}  // namespace klqp
