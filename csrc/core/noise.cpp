// Monte Carlo, antithetic and scrambled-Sobol base draws.
#include "core/noise.hpp"

#include <bit>

#include "core/errors.hpp"

namespace klqp {
namespace {

constexpr Index kGrain = 2048;  // coordinates of one chunk: about 3 microseconds of noise

// Digital shift and random linear scramble of one Sobol coordinate (Matousek 1998): a random lower-triangular
// 32x32 bit matrix with unit diagonal, row k giving output bit 31-k, and a random shift.
struct Scramble {
  std::uint32_t rows[32];
  std::uint32_t shift;

  Scramble(std::uint64_t seed, std::uint32_t step, std::uint32_t group, std::uint32_t coordinate) noexcept {
    const std::uint32_t key[2] = {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
    std::uint32_t words[36];
    for (std::uint32_t block = 0; block < 9; ++block) {
      const std::uint32_t counter[4] = {coordinate * 9 + block, group, step,
                                        static_cast<std::uint32_t>(Stream::scramble)};
      kernels().philox(counter, key, words + 4 * block);
    }
    for (int k = 0; k < 32; ++k) {
      const std::uint32_t diagonal = 0x80000000u >> k;
      const std::uint32_t more_significant = ~(diagonal | (diagonal - 1));
      rows[k] = (words[k] & more_significant) | diagonal;
    }
    shift = words[32];
  }

  std::uint32_t operator()(std::uint32_t direction) const noexcept {
    std::uint32_t out = 0;
    for (int k = 0; k < 32; ++k) {
      out |= static_cast<std::uint32_t>(std::popcount(rows[k] & direction) & 1) << (31 - k);
    }
    return out;
  }
};

// Calls body(uniform, begin, end) for the runs of columns of one kind in [begin, end).
template <class Body>
void for_kinds(const Ranges& uniforms, Index begin, Index end, const Body& body) {
  Index at = begin;
  for (const IndexRange& range : uniforms) {
    const Index from = std::max(at, range.begin), to = std::min(end, range.end);
    if (from >= to) continue;
    if (from > at) body(false, at, from);
    body(true, from, to);
    at = to;
  }
  if (end > at) body(false, at, end);
}

}  // namespace

void fill_noise(NoiseKey first, const Ranges& uniforms, Matrix eps, Team& team) noexcept {
  const Index pieces = (eps.cols + kGrain - 1) / kGrain;
  const Index rows_per_chunk = std::max<Index>(1, kGrain / std::max<Index>(1, eps.cols));
  const Index row_chunks = (eps.rows + rows_per_chunk - 1) / rows_per_chunk;
  team.for_chunks(row_chunks * pieces, [&](Index chunk) {
    const Index begin = (chunk % pieces) * kGrain;
    const Index end = std::min(begin + kGrain, eps.cols);
    const Index first_row = (chunk / pieces) * rows_per_chunk;
    const Index rows = std::min(eps.rows - first_row, rows_per_chunk);
    NoiseKey key = first;
    key.draw += static_cast<std::uint32_t>(first_row);
    for_kinds(uniforms, begin, end, [&](bool uniform, Index from, Index to) {
      const auto fill = uniform ? kernels().uniforms : kernels().normals;
      fill(key, from / 2, rows, to - from, eps.row(first_row) + from, eps.cols);
    });
  });
}

DrawKind parse_draw_kind(const std::string& name) {
  if (name == "mc") return DrawKind::monte_carlo;
  if (name == "antithetic") return DrawKind::antithetic;
  if (name == "sobol") return DrawKind::sobol;
  throw ConfigError("draws must be 'mc', 'antithetic' or 'sobol', not '" + name + "'");
}

Noise::Noise(NoiseConfig config) : config_(std::move(config)), n_groups_(config_.n_draws) {
  const Index n = config_.n_draws;
  for (const IndexRange& range : config_.uniforms) {
    if (range.begin % 2 != 0 || range.end % 2 != 0) {
      throw ConfigError("ranges of uniform columns of the noise must begin and end at even ones");
    }
  }
  if (n < 1) throw ConfigError("n_samples must be at least 1, not " + std::to_string(n));
  if (config_.kind == DrawKind::antithetic) {
    if (n % 2 != 0) {
      throw ConfigError("antithetic draws come in pairs: n_samples must be even, not " + std::to_string(n));
    }
    n_groups_ = n / 2;
  } else if (config_.kind == DrawKind::sobol) {
    n_groups_ = config_.n_groups;
    if (n_groups_ < 1) throw ConfigError("Sobol draws need at least 1 group, not " + std::to_string(n_groups_));
    const Index size = n / n_groups_;
    if (size * n_groups_ != n || !std::has_single_bit(static_cast<std::uint64_t>(size))) {
      throw ConfigError("Sobol draws need n_samples to be a power of two, not " + std::to_string(n));
    }
    n_bits_ = std::countr_zero(static_cast<std::uint64_t>(size));
    if (static_cast<Index>(config_.directions.size()) != n_bits_ * config_.sobol_dim) {
      throw ConfigError("Sobol draws need " + std::to_string(n_bits_) + " direction numbers for each coordinate");
    }
  }
}

Index Noise::group(Index draw) const noexcept {
  switch (config_.kind) {
    case DrawKind::antithetic:
      return draw % n_groups_;
    case DrawKind::sobol:
      return draw / (config_.n_draws / n_groups_);
    default:
      return draw;
  }
}

void Noise::fill(std::uint32_t step, Matrix eps, Team& team) const noexcept {
  const NoiseKey key = noise_key(config_.seed, Stream::optimisation, step);
  if (config_.kind == DrawKind::antithetic) {
    const Index half = eps.rows / 2;
    fill_noise(key, config_.uniforms, {eps.data, half, eps.cols}, team);
    team.for_range(half * eps.cols, kGrain, [&](Index begin, Index end) {
      kernels().scale(end - begin, -1.0, eps.data + begin, eps.row(half) + begin);
    });
    for (const IndexRange& range : config_.uniforms) {
      for (Index row = half; row < eps.rows; ++row) {
        for (Index i = range.begin; i < std::min(range.end, eps.cols); ++i) eps.row(row)[i] += 1.0;
      }
    }
    return;
  }
  if (config_.kind == DrawKind::sobol) {
    const Index sobol_dim = std::min(config_.sobol_dim, eps.cols);
    if (sobol_dim < eps.cols) fill_noise(key, config_.uniforms, eps, team);
    team.for_range(sobol_dim * n_groups_, 16, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) fill_sobol(step, i / sobol_dim, i % sobol_dim, eps);
    });
    team.for_range(eps.rows, 1, [&](Index row, Index) { invert(eps.row(row), sobol_dim); });
    return;
  }
  fill_noise(key, config_.uniforms, eps, team);
}

// Uniforms to normals in the first columns of a row, where normals are wanted.
void Noise::invert(double* row, Index dim) const noexcept {
  for_kinds(config_.uniforms, 0, dim, [&](bool uniform, Index begin, Index end) {
    if (!uniform) kernels().norm_ppf(end - begin, row + begin, row + begin);
  });
}

// Uniforms of one group and coordinate, in Gray-code order.
void Noise::fill_sobol(std::uint32_t step, Index group, Index coordinate, Matrix eps) const noexcept {
  const Index size = config_.n_draws / n_groups_;
  const Scramble scramble(config_.seed, step, static_cast<std::uint32_t>(group),
                          static_cast<std::uint32_t>(coordinate));
  std::uint32_t directions[32];
  for (Index bit = 0; bit < n_bits_; ++bit) {
    directions[bit] = scramble(config_.directions[static_cast<std::size_t>(bit * config_.sobol_dim + coordinate)]);
  }
  std::uint32_t point = scramble.shift;
  for (Index i = 0; i < size; ++i) {
    if (i > 0) point ^= directions[std::countr_zero(static_cast<std::uint64_t>(i))];
    eps.row(group * size + i)[coordinate] = (static_cast<double>(point) + 0.5) * 0x1p-32;
  }
}

}  // namespace klqp
