// Gradient clipping, on request only: by value, then by global norm (Pascanu, Mikolov & Bengio 2013).
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/view.hpp"

namespace klqp {

struct Clip {
  double value = std::numeric_limits<double>::infinity();
  double norm = std::numeric_limits<double>::infinity();

  void apply(Span grad) const noexcept {
    const auto n = static_cast<Index>(grad.size());
    if (value < std::numeric_limits<double>::infinity()) {
      for (double& g : grad) g = std::clamp(g, -value, value);
    }
    if (norm < std::numeric_limits<double>::infinity()) {
      const double size = std::sqrt(kernels().dot(n, grad.data(), grad.data()));
      if (size > norm) kernels().scale(n, norm / size, grad.data(), grad.data());
    }
  }
};

}  // namespace klqp
