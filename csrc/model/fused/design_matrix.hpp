// DesignMatrix: the rows of explanatory variables of a linear predictor, read in blocks where they lie.
#pragma once

#include <memory>
#include <vector>

#include "core/errors.hpp"
#include "core/view.hpp"

namespace klqp {

// The rows [first, first + n) of a predictor; `index` names the matrix's row of each, null where they are the same.
struct RowBlock {
  Index first = 0, n = 0;
  const Index* index = nullptr;

  Index row(Index i) const noexcept { return index == nullptr ? first + i : index[first + i]; }
};

// A block of rows at hand: row-major numbers, `stride` apart, where the matrix is dense.
struct LoadedBlock {
  RowBlock rows;
  const double* data = nullptr;
  Index stride = 0;
};

// Immutable, and shared by the nodes that read it. Nothing of it is copied but a block at a time.
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

  // Numbers of scratch that load() wants for a row of the block.
  virtual Index scratch_per_row(bool indexed) const noexcept = 0;
  // What the two products read; valid as long as scratch is.
  virtual LoadedBlock load(RowBlock rows, double* scratch) const noexcept = 0;
  // eta (m, n), rows `ld` apart, += coef (m, cols) X^T of the block
  virtual void add_product(const LoadedBlock& block, Index m, const double* coef, double* eta,
                           Index ld) const noexcept = 0;
  // grad (m, cols) += residual (m, n), rows `ld` apart, times X of the block
  virtual void add_gradient(const LoadedBlock& block, Index m, const double* residual, Index ld,
                            double* grad) const noexcept = 0;

 private:
  Index rows_, cols_;
};

}  // namespace klqp
