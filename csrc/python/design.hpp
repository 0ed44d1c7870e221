// What Python knows of linear predictors: design matrices and the terms, whose arrays are numbers of a program's slots.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <vector>

#include "model/fused/design_matrix.hpp"

namespace klqp {

struct PredictorSpec {
  using Id = std::size_t;

  struct Matrix {
    std::shared_ptr<const DesignMatrix> matrix;  // null: the data of `data`
    Id coef, data;
  };
  struct Gather {
    Id table, index;
    long covariate;  // -1: none
  };

  Index n, k;
  std::vector<Matrix> matrices;
  std::vector<Gather> gathers;
  std::vector<Id> added;
  long rows = -1;  // -1: none
};

}  // namespace klqp
