// Density: the log density of an elementwise distribution, summed over the elements or not.
#pragma once

#include <array>
#include <numeric>

#include "model/node.hpp"

namespace klqp {

// Inputs: the value, the distribution's parameters, and where `scaled` a factor for each element; each of n numbers or
// of one. Output: one number, or where `summed` is false n of them.
class Density final : public Node {
 public:
  struct Options {
    bool summed = true;
    bool scaled = false;
    bool log_q = false;  // belongs to q: sweeps choose where its cotangents go
  };

  Density(const DensityKernel& kernel, Index n, Options options, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), kernel_(kernel), n_(n), options_(options), n_args_(inputs_.size()) {
    if (options.scaled) --n_args_;
    if (n_args_ != static_cast<std::size_t>(kernel.n_args)) {
      throw ConfigError(std::string(kernel.name) + " takes a value and " + std::to_string(kernel.n_args - 1) +
                        " parameters");
    }
    for (const Slot* x : inputs_) {
      if (x->size != 1 && x->size != n) throw ConfigError("arguments must have the value's size or size 1");
    }
    if (output->size != (options.summed ? 1 : n)) throw ConfigError("the density has another size than its output");
    fixed_base_ = kernel.log_base != nullptr && (!options.scaled || in(n_args_).fixed);
    for (std::size_t k = 0; k < n_args_; ++k) {
      if (((kernel.base_args >> k) & 1u) != 0 && !in(k).fixed) fixed_base_ = false;
    }
    if (fixed_base_) base_.assign(static_cast<std::size_t>(options.summed ? 1 : n), 0.0);
    rows_together_ = output->per_draw ? std::max<Index>(1, kTile / n) : 1;
  }

  Index work(Index n_draws) const override { return 16 * output_->rows(n_draws) * n_; }

  // Belongs to a model: only then all active arguments get cotangents in a sweep.
  unsigned may_set() const override {
    unsigned out = 0;
    for (std::size_t k = 0; k < n_args_; ++k) {
      if (!options_.log_q && in(k).size == n_ && in(k).per_draw == output_->per_draw) out |= 1u << k;
    }
    return out;
  }

  // Then the forward pass, which has the arguments and their functions at hand, keeps the derivatives.
  void expect_backward() override {
    keeps_ = true;
    make_room();
  }

  void reserve(Index n_draws) override {
    n_rows_ = output_->rows(n_draws);
    make_room();
    partial_.assign(static_cast<std::size_t>(output_->rows(n_draws) * n_tiles()), 0.0);
    scalar_parts_.assign(static_cast<std::size_t>(kMostArgs * n_groups()), 0.0);
  }

  // The part that data alone decide, once.
  void data_changed() override {
    if (!fixed_base_) return;
    std::fill(base_.begin(), base_.end(), 0.0);
    for (Index begin = 0; begin < n_; begin += kTile) {
      const Block block(*this, {0, 1, begin, std::min(kTile, n_ - begin)});
      double tile[kTile];
      kernel_.log_base(block.size(), block.args.data(), block.scalars, tile);
      apply_scale(block, tile);
      if (options_.summed) {
        base_[0] += kernels().sum(block.size(), tile);
      } else {
        std::copy_n(tile, block.size(), base_.begin() + begin);
      }
    }
  }

  void forward(Index n_draws, Team& team) override {
    const Index rows = output_->rows(n_draws);
    if (rows_together_ > 1) {
      const Index n_blocks = (rows + rows_together_ - 1) / rows_together_;
      team.for_range(n_blocks, kTilesTogether, [&](Index begin, Index end) {
        for (Index b = begin; b < end; ++b) {
          const Index first = b * rows_together_;
          value_block({first, std::min(rows_together_, rows - first), 0, n_});
        }
      });
      return;
    }
    team.for_range(rows * n_tiles(), kTilesTogether, [&](Index begin, Index end) {
      for (Index t = begin; t < end; ++t) {
        const Index at = t % n_tiles() * kTile;
        value_block({t / n_tiles(), 1, at, std::min(kTile, n_ - at)});
      }
    });
    if (!options_.summed) return;
    for (Index s = 0; s < rows; ++s) {
      output_->value[s] = (fixed_base_ ? base_[0] : 0.0) + kernels().sum(n_tiles(), &partial_[s * n_tiles()]);
    }
  }

  void backward(const Sweep& sweep) override {
    const Wanted wanted{wanted_args(sweep), sweep.sets};
    if (wanted.args == 0) return;
    if (rows_together_ > 1) {
      sweep.for_rows(true, [&](Index first, Index n) { pull_rows(first, n, wanted, sweep.team); });
    } else {
      sweep.for_each_row(output_->per_draw, [&](Index s) { pull_row(s, wanted, sweep.team); });
    }
  }

 private:
  static constexpr Index kTile = 256, kGroup = 16 * kTile, kMostArgs = 4, kTilesTogether = 16;

  // What a sweep asks for: bit k for argument k, and which of these are set instead of added to.
  struct Wanted {
    unsigned args, sets;
    bool operator[](std::size_t k) const noexcept { return (args >> k & 1u) != 0; }
  };

  // Elements [at, at + m) of some rows; of several rows only where m is all of a row.
  struct Place {
    Index first, rows, at, m;
  };

  // How an argument lies in a place: a number for each element, one number for all, one for each row, or one array
  // that every row repeats.
  enum class Layout { own, one, by_row, repeated };

  Layout layout(const Slot& x, Index rows) const noexcept {
    if (x.size == n_ && (x.per_draw || rows == 1)) return Layout::own;
    if (x.size == 1) return x.per_draw && rows > 1 ? Layout::by_row : Layout::one;
    return Layout::repeated;
  }

  // The arguments and factors of a place in arrays (rows * m): where they are, or else in tiles.
  struct Block : Place {
    Block(const Density& density, Place place) noexcept : Place(place) {
      for (std::size_t k = 0; k < density.n_args_; ++k) {
        args[k] = point(density, density.in(k), tiles[k]);
        if (density.layout(density.in(k), rows) == Layout::one) scalars |= 1u << k;
      }
      if (density.options_.scaled) factor = point(density, density.in(density.n_args_), tiles[kMostArgs]);
    }

    Index size() const noexcept { return rows * m; }

    std::array<const double*, kMostArgs> args{};
    unsigned scalars = 0;
    const double* factor = nullptr;

   private:
    const double* point(const Density& density, const Slot& x, double* tile) const noexcept {
      const Layout how = density.layout(x, rows);
      if (how == Layout::own) return x.at(first) + at;
      if (how == Layout::one) return x.at(first);
      for (Index r = 0; r < rows; ++r) {
        if (how == Layout::by_row) {
          std::fill_n(tile + r * m, m, *x.at(first + r));
        } else {
          for (Index i = 0; i < m; ++i) tile[r * m + i] = x.value[i];
        }
      }
      return tile;
    }

    double tiles[kMostArgs + 1][kTile];
  };

  Index n_tiles() const noexcept { return (n_ + kTile - 1) / kTile; }
  Index n_groups() const noexcept { return (n_ + kGroup - 1) / kGroup; }

  unsigned wanted_args(const Sweep& sweep) const noexcept {
    unsigned wanted = 0;
    for (std::size_t k = 0; k < n_args_; ++k) {
      const bool let_through = !options_.log_q || (k == 0 ? sweep.log_q_to_value : sweep.log_q_to_params);
      if (in(k).active && let_through) wanted |= 1u << k;
    }
    return wanted;
  }

  // A factor of 0 leaves an element out whatever its density.
  void apply_scale(const Block& block, double* out) const noexcept {
    if (!options_.scaled) return;
    const Index step = layout(in(n_args_), block.rows) == Layout::one ? 0 : 1;
    for (Index i = 0; i < block.size(); ++i) {
      const double factor = block.factor[i * step];
      out[i] = factor == 0.0 ? 0.0 : out[i] * factor;
    }
  }

  // To the output, or where a row's sum has more parts to partial_.
  void value_block(Place place) noexcept {
    const Block block(*this, place);
    const Index size = block.size();
    double tile[kTile];
    double* const out = options_.summed ? tile : output_->at(place.first) + place.at;
    if (keeps_) {
      std::array<double*, kMostArgs> grads{};
      for (std::size_t k = 0; k < n_args_; ++k) {
        if (in(k).active) grads[k] = kept(k, place);
      }
      kernel_.log_prob_and_gradient(size, block.args.data(), block.scalars, out, grads.data());
    } else {
      kernel_.log_prob(size, block.args.data(), block.scalars, out);
    }
    if (kernel_.log_base != nullptr && !fixed_base_) {
      double base[kTile];
      kernel_.log_base(size, block.args.data(), block.scalars, base);
      for (Index i = 0; i < size; ++i) out[i] += base[i];
    }
    apply_scale(block, out);
    if (fixed_base_ && !options_.summed) {
      for (Index r = 0; r < place.rows; ++r) {
        for (Index i = 0; i < place.m; ++i) out[r * place.m + i] += base_[place.at + i];
      }
    }
    if (!options_.summed) return;
    if (rows_together_ == 1) {
      partial_[place.first * n_tiles() + place.at / kTile] = kernels().sum(size, tile);
      return;
    }
    for (Index r = 0; r < place.rows; ++r) {
      double total = fixed_base_ ? base_[0] : 0.0;
      for (Index i = 0; i < place.m; ++i) total += tile[r * place.m + i];
      output_->value[place.first + r] = total;
    }
  }

  // Short rows, many at once: where no argument is shared by draws blocks are independent.
  void pull_rows(Index first, Index n, Wanted wanted, Team& team) {
    bool shared = false;
    for (std::size_t k = 0; k < n_args_; ++k) shared |= wanted[k] && !in(k).per_draw;
    const Alone alone;
    const auto pull = [&](Index begin, Index end) {
      for (Index at = begin; at < end; at += rows_together_) {
        const Place place{first + at, std::min(rows_together_, end - at), 0, n_};
        double parts[kMostArgs] = {};
        pull_block(place, wanted, parts);
        for (std::size_t k = 0; k < n_args_; ++k) {
          const bool one = wanted[k] && layout(in(k), place.rows) == Layout::one;
          if (one) *in(k).adjoint_at(place.first) += parts[k];
        }
      }
    };
    const Index grain = kTilesTogether * rows_together_;
    if (shared) return alone.for_range(n, grain, pull);
    team.for_range(n, grain, pull);
  }

  // A long row, in groups of tiles.
  void pull_row(Index s, Wanted wanted, Team& team) {
    std::fill(scalar_parts_.begin(), scalar_parts_.end(), 0.0);
    team.for_range(n_groups(), 1, [&](Index group, Index) {
      const Index end = std::min(n_, (group + 1) * kGroup);
      for (Index at = group * kGroup; at < end; at += kTile) {
        pull_block({s, 1, at, std::min(kTile, end - at)}, wanted, &scalar_parts_[group * kMostArgs]);
      }
    });
    for (std::size_t k = 0; k < n_args_; ++k) {
      if (!wanted[k] || layout(in(k), 1) != Layout::one) continue;
      for (Index group = 0; group < n_groups(); ++group) {
        *in(k).adjoint_at(s) += scalar_parts_[group * kMostArgs + static_cast<Index>(k)];
      }
    }
  }

  // Adds the cotangents of a place; those of single numbers to parts.
  void pull_block(Place place, Wanted wanted, double* parts) noexcept {
    const Index size = place.rows * place.m;
    double tiles[kMostArgs][kTile], cots[kTile];
    std::array<double*, kMostArgs> grads{};
    const double* cot = nullptr;  // of each element; null where it is one for all
    if (!keeps_ || options_.scaled) {
      const Block block(*this, place);
      for (std::size_t k = 0; k < n_args_; ++k) grads[k] = wanted[k] ? tiles[k] : nullptr;
      if (!keeps_) kernel_.gradient(size, block.args.data(), block.scalars, grads.data());
      fill_cotangents(block, cots);
      cot = cots;
    } else if (!options_.summed) {
      cot = output_->adjoint_at(place.first) + place.at;
    } else if (place.rows > 1) {
      fill_rows(place, cots);
      cot = cots;
    }
    for (std::size_t k = 0; k < n_args_; ++k) {
      if (!wanted[k]) continue;
      const Slot& x = in(k);
      const double* const d = keeps_ ? kept(k, place) : grads[k];
      double* const to = x.adjoint_at(place.first);
      const Layout how = layout(x, place.rows);
      const bool sets = (wanted.sets >> k & 1u) != 0;
      if (how == Layout::own && sets) {
        multiply(size, d, cot, *output_->adjoint_at(place.first), to + place.at);
        continue;
      }
      // Products are rounded before they are added, so that opposite terms cancel to the last bit.
      double* const g = tiles[k];
      multiply(size, d, cot, *output_->adjoint_at(place.first), g);
      switch (how) {
        case Layout::own:
          for (Index i = 0; i < size; ++i) to[place.at + i] += g[i];
          break;
        case Layout::one:
          parts[k] += kernels().sum(size, g);
          break;
        case Layout::by_row:
          for (Index r = 0; r < place.rows; ++r) to[r] += std::accumulate(g + r * place.m, g + (r + 1) * place.m, 0.0);
          break;
        case Layout::repeated:
          for (Index r = 0; r < place.rows; ++r) {
            for (Index i = 0; i < place.m; ++i) to[i] += g[r * place.m + i];
          }
          break;
      }
    }
  }

  // out (n) = d (n) times cot (n), or times `one` where cot is null; out may be d.
  static void multiply(Index n, const double* d, const double* cot, double one, double* out) noexcept {
    if (cot == nullptr) return kernels().scale(n, one, d, out);
    for (Index i = 0; i < n; ++i) out[i] = d[i] * cot[i];
  }

  // The kept derivatives by argument k.
  double* kept(std::size_t k, Place place) noexcept { return kept_[k].data() + place.first * n_ + place.at; }

  void make_room() {
    if (!keeps_ || n_rows_ == 0) return;
    for (std::size_t k = 0; k < n_args_; ++k) {
      if (in(k).active) kept_[k].resize(static_cast<std::size_t>(n_rows_ * n_));
    }
  }

  void fill_rows(Place place, double* cot) const noexcept {
    for (Index r = 0; r < place.rows; ++r)
      std::fill_n(cot + r * place.m, place.m, *output_->adjoint_at(place.first + r));
  }

  // The output's cotangents, each element's times its factor.
  void fill_cotangents(const Block& block, double* cot) const noexcept {
    if (options_.summed) {
      fill_rows(block, cot);
    } else {
      std::copy_n(output_->adjoint_at(block.first) + block.at, block.size(), cot);
    }
    apply_scale(block, cot);
  }

  const DensityKernel& kernel_;
  Index n_;
  Options options_;
  std::size_t n_args_;
  Index rows_together_ = 1;   // that fit a tile
  bool fixed_base_ = false;   // the base depends on data alone
  std::vector<double> base_;  // then, its sum or elements, scaled
  bool keeps_ = false;        // derivatives of the forward pass
  Index n_rows_ = 0;
  std::array<std::vector<double>, kMostArgs> kept_;  // (rows, n) by argument, where active
  std::vector<double> partial_;                      // (rows, tiles)
  std::vector<double> scalar_parts_;                 // (groups, arguments)
};

}  // namespace klqp
