// The samplers of discrete numbers, by the name of their density.
#pragma once

#include <span>

#include "core/view.hpp"

namespace klqp {

// An argument of n draws: n numbers, or one for all where step is 0.
struct Column {
  const double* values;
  Index step;

  double operator[](Index i) const noexcept { return values[i * step]; }
  Column from(Index begin) const noexcept { return {values + begin * step, step}; }
};

struct DiscreteSampler {
  const char* name;
  std::size_t n_params;
  Index work;  // rough number of elementary operations of a draw
  // out (n) = draws from uniforms u (n) on (0, 1); NaN where parameters are not legal. An element depends on its own
  // uniform and parameters alone. Allocates nothing.
  void (*draw)(Index n, const double* u, const Column* params, double* out) noexcept;
};

std::span<const DiscreteSampler> discrete_samplers() noexcept;

}  // namespace klqp
