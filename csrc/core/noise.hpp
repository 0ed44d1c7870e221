// Noise: the base draws of a step, a pure function of (seed, stream, step, draw, coordinate).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/parallel.hpp"
#include "core/ranges.hpp"
#include "core/view.hpp"

namespace klqp {

// Streams of the counter (docs/counters.md).
// 5 is that of substreams, in the kernels.
enum class Stream : std::uint32_t { optimisation = 0, posterior = 1, elbo = 2, scramble = 3, start = 4, problem = 6 };

inline NoiseKey noise_key(std::uint64_t seed, Stream stream, std::uint32_t step = 0, std::uint32_t first_draw = 0) {
  return {seed, static_cast<std::uint32_t>(stream), step, first_draw};
}

// Fills eps (n, dim) for draws first.draw, first.draw + 1, ...: uniforms on (0, 1) in the columns of `uniforms`, whose
// ranges begin and end at even columns (a block of noise is two), and standard normals in the others, all independent.
void fill_noise(NoiseKey first, const Ranges& uniforms, Matrix eps, Team& team) noexcept;

enum class DrawKind { monte_carlo, antithetic, sobol };
DrawKind parse_draw_kind(const std::string& name);

struct NoiseConfig {
  DrawKind kind = DrawKind::monte_carlo;
  std::uint64_t seed = 0;
  Index n_draws = 1;
  Index dim = 1;
  Index n_groups = 1;  // sobol: independent scrambles, each of n_draws / n_groups points
  // sobol: 32-bit direction numbers (n_bits, sobol_dim) of the unscrambled sequence, n_bits = log2 of the group
  // size; coordinates from sobol_dim on are plain Monte Carlo.
  std::vector<std::uint32_t> directions;
  Index sobol_dim = 0;
  Ranges uniforms;  // columns that are uniforms, see fill_noise()
};

class Noise {
 public:
  explicit Noise(NoiseConfig config);

  void set_seed(std::uint64_t seed) noexcept { config_.seed = seed; }
  Index n_draws() const noexcept { return config_.n_draws; }
  // Draws s and s' are independent iff group(s) != group(s').
  Index n_groups() const noexcept { return n_groups_; }
  Index group(Index draw) const noexcept;

  void fill(std::uint32_t step, Matrix eps, Team& team) const noexcept;

 private:
  void invert(double* row, Index dim) const noexcept;
  void fill_sobol(std::uint32_t step, Index group, Index coordinate, Matrix eps) const noexcept;

  NoiseConfig config_;
  Index n_groups_;
  Index n_bits_ = 0;
};

}  // namespace klqp
