// Cotangents of draws by element, on their way to the parameters that elements may have in common.
#pragma once

#include "model/node.hpp"

namespace klqp {

// The adjoint of an operand, of n numbers or of one, += shares (rows, n) of the elements of draws [first, first +
// rows).
inline void add_shares(const Slot& to, Index n, Index first, Index rows, const double* shares, Team& team) {
  constexpr Index grain = 1024;
  if (to.size == n && to.per_draw) {
    kernels().axpy(rows * n, 1.0, shares, to.adjoint_at(first));
  } else if (to.size == 1 && !to.per_draw) {
    *to.adjoint += kernels().sum(rows * n, shares);
  } else if (to.size == 1) {
    for (Index s = 0; s < rows; ++s) *to.adjoint_at(first + s) += kernels().sum(n, shares + s * n);
  } else {
    team.for_range(n, grain, [&](Index begin, Index end) {
      for (Index s = 0; s < rows; ++s) kernels().axpy(end - begin, 1.0, shares + s * n + begin, to.adjoint + begin);
    });
  }
}

}  // namespace klqp
