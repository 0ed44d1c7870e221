// Density: the log density of an elementwise distribution, summed over the elements or not.
#pragma once

#include <array>

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
    fixed_base_ = kernel.log_base != nullptr;
    for (std::size_t k = 0; k < n_args_; ++k) {
      if (((kernel.base_args >> k) & 1u) != 0 && !in(k).fixed) fixed_base_ = false;
    }
    if (fixed_base_) base_.assign(static_cast<std::size_t>(options.summed ? 1 : n), 0.0);
  }

  void reserve(Index n_draws) override {
    partial_.assign(static_cast<std::size_t>(output_->rows(n_draws) * n_tiles()), 0.0);
    scalar_parts_.assign(static_cast<std::size_t>(kMostArgs * n_groups()), 0.0);
  }

  // The part that data alone decide, once.
  void data_changed() override {
    if (!fixed_base_) return;
    std::fill(base_.begin(), base_.end(), 0.0);
    for (Index begin = 0; begin < n_; begin += kTile) {
      const Index m = std::min(kTile, n_ - begin);
      double tile[kTile];
      base_tile(0, begin, m, tile);
      if (options_.summed) {
        base_[0] += kernels().sum(m, tile);
      } else {
        std::copy_n(tile, m, base_.begin() + begin);
      }
    }
  }

  void forward(Index n_draws, Team& team) override {
    const Index rows = output_->rows(n_draws);
    if (n_ == 1) return forward_scalars(rows);
    if (!options_.summed) {
      team.for_range(rows * n_tiles(), 16, [&](Index begin, Index end) {
        for (Index t = begin; t < end; ++t) {
          const Index s = t / n_tiles(), at = t % n_tiles() * kTile;
          value_tile(s, at, std::min(kTile, n_ - at), output_->at(s) + at);
        }
      });
      return;
    }
    team.for_range(rows * n_tiles(), 16, [&](Index begin, Index end) {
      for (Index t = begin; t < end; ++t) {
        double tile[kTile];
        const Index s = t / n_tiles(), at = t % n_tiles() * kTile, m = std::min(kTile, n_ - at);
        value_tile(s, at, m, tile);
        partial_[static_cast<std::size_t>(t)] = kernels().sum(m, tile);
      }
    });
    for (Index s = 0; s < rows; ++s) {
      output_->value[s] = (fixed_base_ ? base_[0] : 0.0) + kernels().sum(n_tiles(), &partial_[s * n_tiles()]);
    }
  }

  void backward(const Sweep& sweep) override {
    const unsigned wanted = wanted_args(sweep);
    if (wanted == 0) return;
    if (n_ == 1) return backward_scalars(sweep, wanted);
    sweep.for_each_row(output_->per_draw, [&](Index s) {
      std::fill(scalar_parts_.begin(), scalar_parts_.end(), 0.0);
      sweep.team.for_range(n_groups(), 1, [&](Index group, Index) {
        const Index first = group * kGroup;
        for (Index at = first; at < std::min(n_, first + kGroup); at += kTile) {
          gradient_tile(s, at, std::min(kTile, n_ - at), wanted, &scalar_parts_[group * kMostArgs]);
        }
      });
      for (std::size_t k = 0; k < n_args_; ++k) {
        if ((wanted >> k & 1u) == 0 || in(k).size != 1) continue;
        for (Index group = 0; group < n_groups(); ++group) {
          *in(k).adjoint_at(s) += scalar_parts_[group * kMostArgs + static_cast<Index>(k)];
        }
      }
    });
  }

 private:
  static constexpr Index kTile = 256, kGroup = 16 * kTile, kMostArgs = 4;

  Index n_tiles() const noexcept { return (n_ + kTile - 1) / kTile; }
  Index n_groups() const noexcept { return (n_ + kGroup - 1) / kGroup; }
  const Slot& scale() const noexcept { return in(n_args_); }

  unsigned wanted_args(const Sweep& sweep) const noexcept {
    unsigned wanted = 0;
    for (std::size_t k = 0; k < n_args_; ++k) {
      const bool let_through = !options_.log_q || (k == 0 ? sweep.log_q_to_value : sweep.log_q_to_params);
      if (in(k).active && let_through) wanted |= 1u << k;
    }
    return wanted;
  }

  // Pointers to the arguments of elements [at, ...) of row s; returns which of them are single numbers.
  unsigned point_to(Index s, Index at, std::array<const double*, kMostArgs>& args) const noexcept {
    unsigned scalars = 0;
    for (std::size_t k = 0; k < n_args_; ++k) {
      const bool one = in(k).size == 1 && n_ > 1;
      args[k] = in(k).at(s) + (one ? 0 : at);
      if (one) scalars |= 1u << k;
    }
    return scalars;
  }

  void base_tile(Index s, Index at, Index m, double* out) const noexcept {
    std::array<const double*, kMostArgs> args{};
    const unsigned scalars = point_to(s, at, args);
    kernel_.log_base(m, args.data(), scalars, out);
    apply_scale(s, at, m, out);
  }

  void apply_scale(Index s, Index at, Index m, double* out) const noexcept {
    if (!options_.scaled) return;
    const double* const factor = scale().at(s);
    if (scale().size == 1) return kernels().scale(m, *factor, out, out);
    // 0 leaves an element out whatever its density.
    for (Index i = 0; i < m; ++i) out[i] = factor[at + i] == 0.0 ? 0.0 : out[i] * factor[at + i];
  }

  void value_tile(Index s, Index at, Index m, double* out) const noexcept {
    std::array<const double*, kMostArgs> args{};
    const unsigned scalars = point_to(s, at, args);
    kernel_.log_prob(m, args.data(), scalars, out);
    apply_scale(s, at, m, out);
    if (kernel_.log_base == nullptr) return;
    if (!fixed_base_) {
      double base[kTile];
      base_tile(s, at, m, base);
      kernels().axpy(m, 1.0, base, out);
    } else if (!options_.summed) {
      kernels().axpy(m, 1.0, base_.data() + at, out);
    }
  }

  // Adds the cotangents of elements [at, at + m) of row s; those of single numbers to scalar_parts.
  void gradient_tile(Index s, Index at, Index m, unsigned wanted, double* scalar_parts) const noexcept {
    double tiles[kMostArgs][kTile], cot[kTile];
    std::array<const double*, kMostArgs> args{};
    std::array<double*, kMostArgs> grads{};
    const unsigned scalars = point_to(s, at, args);
    for (std::size_t k = 0; k < n_args_; ++k) grads[k] = (wanted >> k & 1u) != 0 ? tiles[k] : nullptr;
    kernel_.gradient(m, args.data(), scalars, grads.data());
    const double* const seed = output_->adjoint_at(s);
    for (Index i = 0; i < m; ++i) cot[i] = options_.summed ? *seed : seed[at + i];
    apply_scale(s, at, m, cot);
    for (std::size_t k = 0; k < n_args_; ++k) {
      if (grads[k] == nullptr) continue;
      if (in(k).size == 1) {
        scalar_parts[k] += kernels().dot(m, cot, grads[k]);
      } else {
        kernels().multiply_add(m, 1.0, cot, grads[k], in(k).adjoint_at(s) + at);
      }
    }
  }

  // A single element: the draws take its place as the vector.
  unsigned point_to_scalars(Index first, std::array<const double*, kMostArgs>& args) const noexcept {
    unsigned scalars = 0;
    for (std::size_t k = 0; k < n_args_; ++k) {
      args[k] = in(k).at(first);
      if (!in(k).per_draw) scalars |= 1u << k;
    }
    return scalars;
  }

  void scale_scalars(Index first, Index m, double* out) const noexcept {
    if (!options_.scaled) return;
    for (Index i = 0; i < m; ++i) {
      const double factor = *scale().at(first + i);
      out[i] = factor == 0.0 ? 0.0 : out[i] * factor;
    }
  }

  void forward_scalars(Index rows) const noexcept {
    for (Index first = 0; first < rows; first += kTile) {
      const Index m = std::min(kTile, rows - first);
      std::array<const double*, kMostArgs> args{};
      const unsigned scalars = point_to_scalars(first, args);
      double* const out = output_->value + first;
      kernel_.log_prob(m, args.data(), scalars, out);
      if (kernel_.log_base != nullptr && !fixed_base_) {
        double base[kTile];
        kernel_.log_base(m, args.data(), scalars, base);
        kernels().axpy(m, 1.0, base, out);
      }
      scale_scalars(first, m, out);
      if (fixed_base_) {
        for (Index i = 0; i < m; ++i) out[i] += base_[0];
      }
    }
  }

  void backward_scalars(const Sweep& sweep, unsigned wanted) const noexcept {
    sweep.for_rows(output_->per_draw, [&](Index begin, Index n) {
      for (Index first = begin; first < begin + n; first += kTile) {
        const Index m = std::min(kTile, begin + n - first);
        double tiles[kMostArgs][kTile], cot[kTile];
        std::array<const double*, kMostArgs> args{};
        std::array<double*, kMostArgs> grads{};
        const unsigned scalars = point_to_scalars(first, args);
        for (std::size_t k = 0; k < n_args_; ++k) grads[k] = (wanted >> k & 1u) != 0 ? tiles[k] : nullptr;
        kernel_.gradient(m, args.data(), scalars, grads.data());
        std::copy_n(output_->adjoint + first, m, cot);
        scale_scalars(first, m, cot);
        for (std::size_t k = 0; k < n_args_; ++k) {
          if (grads[k] == nullptr) continue;
          if (in(k).per_draw) {
            kernels().multiply_add(m, 1.0, cot, grads[k], in(k).adjoint_at(first));
          } else {
            *in(k).adjoint += kernels().dot(m, cot, grads[k]);
          }
        }
      }
    });
  }

  const DensityKernel& kernel_;
  Index n_;
  Options options_;
  std::size_t n_args_;
  bool fixed_base_ = false;           // the base depends on data alone
  std::vector<double> base_;          // then, its sum or elements, scaled
  std::vector<double> partial_;       // (rows, tiles)
  std::vector<double> scalar_parts_;  // (groups, arguments)
};

}  // namespace klqp
