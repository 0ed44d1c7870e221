// Predictor: the terms of a linear predictor eta (n, k).
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "model/fused/dense_matrix.hpp"
#include "model/fused/row_numbers.hpp"

namespace klqp {

// X coef, where coef is (cols, k).
struct MatrixTerm {
  std::shared_ptr<const DesignMatrix> matrix;
  Slot* coef;
  Slot* data = nullptr;  // that the matrix is, if any: then `rows` of the predictor is not for it
};

// table[index] (n), times a covariate (n) if there is one; k = 1.
struct GatherTerm {
  Slot *table, *index, *covariate;
};

struct PredictorTerms {
  Index n = 0, k = 1;
  std::vector<MatrixTerm> matrices;
  std::vector<GatherTerm> gathers;
  std::vector<Slot*> added;  // of 1, k or n * k numbers
  Slot* rows = nullptr;      // row i reads row rows[i] of the matrices

  // All arrays that are read.
  std::vector<Slot*> slots() const {
    std::vector<Slot*> out;
    for (const MatrixTerm& term : matrices) {
      out.push_back(term.coef);
      if (term.data != nullptr) out.push_back(term.data);
    }
    for (const GatherTerm& term : gathers) {
      out.push_back(term.table);
      out.push_back(term.index);
      if (term.covariate != nullptr) out.push_back(term.covariate);
    }
    out.insert(out.end(), added.begin(), added.end());
    if (rows != nullptr) out.push_back(rows);
    return out;
  }

  // Throws ConfigError where sizes do not fit together.
  void check() const {
    if (n < 1 || k < 1) throw ConfigError("a predictor must have rows and columns");
    if (rows != nullptr) require_data(rows, "the row numbers of a predictor");
    for (const MatrixTerm& term : matrices) {
      if (term.coef->size != term.matrix->cols() * k) {
        throw ConfigError("a design matrix of " + std::to_string(term.matrix->cols()) + " columns wants " +
                          std::to_string(term.matrix->cols() * k) + " coefficients, got " +
                          std::to_string(term.coef->size));
      }
      if (rows == nullptr && term.matrix->rows() != n) {
        throw ConfigError("a predictor of " + std::to_string(n) + " rows cannot read a design matrix of " +
                          std::to_string(term.matrix->rows()));
      }
    }
    if (!gathers.empty() && k != 1) throw ConfigError("gathers are for predictors of one column");
    for (const GatherTerm& term : gathers) {
      require_data(term.index, "the index of a gather");
      if (term.covariate != nullptr) require_data(term.covariate, "the covariate of a gather");
    }
    for (const Slot* slot : added) {
      if (slot->size != 1 && slot->size != k && slot->size != n * k) {
        throw ConfigError("a term of a predictor must have 1, " + std::to_string(k) + " or " + std::to_string(n * k) +
                          " numbers, not " + std::to_string(slot->size));
      }
    }
  }

 private:
  void require_data(const Slot* slot, const char* what) const {
    if (!slot->fixed) throw ConfigError(std::string(what) + " must be data");
    if (slot->size == n) return;
    throw ConfigError(std::string(what) + " must have " + std::to_string(n) + " numbers, got " +
                      std::to_string(slot->size));
  }
};

}  // namespace klqp
