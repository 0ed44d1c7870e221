// Slot: one array of a program, with the cotangent that flows back to it.
#pragma once

#include <vector>

#include "core/view.hpp"

namespace klqp {

// `size` numbers for each of S draws, or once for all of them. An adjoint has the layout of its value.
struct Slot {
  Index size = 0;
  bool per_draw = false;  // has a draw axis
  bool active = false;    // depends on a parameter or on noise, so that a cotangent is wanted
  bool fixed = false;     // depends on data alone
  double* value = nullptr;
  double* adjoint = nullptr;  // null where inactive

  Index stride() const noexcept { return per_draw ? size : 0; }
  Index rows(Index n_draws) const noexcept { return per_draw ? n_draws : 1; }
  double* at(Index draw) const noexcept { return value + draw * stride(); }
  double* adjoint_at(Index draw) const noexcept { return adjoint + draw * stride(); }
};

}  // namespace klqp
