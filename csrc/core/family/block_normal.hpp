// Block-diagonal Normal: independent full-rank Normals over runs of coordinates, lambda = theirs one after another.
//
// Runs of single coordinates are one mean-field member. Members see copies of their columns: their matrices have no
// gaps.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "core/family/full_rank_normal.hpp"
#include "core/family/mean_field_normal.hpp"

namespace klqp {

class BlockNormal final : public Family {
 public:
  // config.blocks: the sizes, whose sum is the dimension.
  explicit BlockNormal(const FamilyConfig& config) : BlockNormal(config, parts_of(config)) {}

  void start(ConstSpan loc, ConstSpan scale, std::uint64_t seed, Span params) const override {
    for (const Part& p : parts_) {
      p.family->start(loc.subspan(p.at, p.dim()), scale.subspan(p.at, p.dim()), seed, p.of(params));
    }
  }
  void prepare(ConstSpan params, Team& team) noexcept override {
    for (const Part& p : parts_) p.family->prepare(p.of(params), team);
  }

  void transform(ConstMatrix noise, Matrix z, Team& team) const noexcept override {
    thread_local std::vector<double> from, to;
    for (const Part& p : parts_) {
      const Matrix out = sized(to, z.rows, p);
      p.family->transform(columns(noise, p, from), out, team);
      put(out, p, z);
    }
  }
  void standardise_noise(ConstMatrix noise, Matrix e, Team&) const noexcept override {
    std::copy_n(noise.data, e.size(), e.data);
  }
  void standardise(ConstMatrix z, Matrix e, Team& team) const noexcept override {
    thread_local std::vector<double> from, to;
    for (const Part& p : parts_) {
      const Matrix out = sized(to, z.rows, p);
      p.family->standardise(columns(z, p, from), out, team);
      put(out, p, e);
    }
  }
  void add_precision(ConstMatrix e, ConstSpan weights, Matrix cot, Team& team) const noexcept override {
    thread_local std::vector<double> from, to;
    for (const Part& p : parts_) {
      const Matrix out = columns(cot, p, to);
      p.family->add_precision(columns(e, p, from), weights, out, team);
      put(out, p, cot);
    }
  }
  void add_pullback(ConstMatrix noise, ConstMatrix cot, Span grad, Team& team) const noexcept override {
    thread_local std::vector<double> first, second;
    for (const Part& p : parts_) {
      p.family->add_pullback(columns(noise, p, first), columns(cot, p, second), p.of(grad), team);
    }
  }
  void add_entropy_gradient(double weight, Span grad) const noexcept override {
    for (const Part& p : parts_) p.family->add_entropy_gradient(weight, p.of(grad));
  }
  double half_log_det() const noexcept override {
    double sum = 0.0;
    for (const Part& p : parts_) sum += p.family->half_log_det();
    return sum;
  }

  void project(Span params) const noexcept override {
    for (const Part& p : parts_) p.family->project(p.of(params));
  }
  void proximal_step(double gamma, Span params) const noexcept override {
    for (const Part& p : parts_) p.family->proximal_step(gamma, p.of(params));
  }
  bool proximal() const noexcept override { return config_.scale == ScaleLink::linear; }
  void contract(double factor, Span params) const noexcept override {
    for (const Part& p : parts_) p.family->contract(factor, p.of(params));
  }

  void mean(Span out) const noexcept override {
    for (const Part& p : parts_) p.family->mean(out.subspan(p.at, p.dim()));
  }
  void stddev(Span out) const noexcept override {
    for (const Part& p : parts_) p.family->stddev(out.subspan(p.at, p.dim()));
  }
  void covariance(Matrix out) const noexcept override {
    thread_local std::vector<double> own;
    std::fill_n(out.data, out.size(), 0.0);
    for (const Part& p : parts_) {
      const Matrix block = sized(own, p.dim(), p);
      p.family->covariance(block);
      for (Index i = 0; i < p.dim(); ++i) std::copy_n(block.row(i), p.dim(), out.row(p.at + i) + p.at);
    }
  }

 private:
  struct Part {
    std::unique_ptr<Family> family;
    Index at, params_at;  // of its coordinates, and of its parameters

    Index dim() const noexcept { return family->dim(); }
    template <class AnySpan>
    AnySpan of(AnySpan params) const noexcept {
      return params.subspan(static_cast<std::size_t>(params_at), static_cast<std::size_t>(family->n_params()));
    }
  };
  using Parts = std::vector<Part>;

  BlockNormal(const FamilyConfig& config, Parts parts)
      : Family(config, config.dim, parts.back().params_at + parts.back().family->n_params()),
        parts_(std::move(parts)) {}

  static Parts parts_of(const FamilyConfig& config) {
    Parts parts;
    Index at = 0, params_at = 0;
    const auto add = [&](std::unique_ptr<Family> family) {
      parts.push_back({std::move(family), at, params_at});
      at += parts.back().family->dim();
      params_at += parts.back().family->n_params();
    };
    for (std::size_t k = 0; k < config.blocks.size();) {
      std::size_t end = k;
      while (end < config.blocks.size() && config.blocks[end] == 1) ++end;
      if (end > k) {
        add(std::make_unique<MeanFieldNormal>(FamilyConfig{static_cast<Index>(end - k), 0, config.scale, {}}));
        k = end;
      } else {
        add(std::make_unique<FullRankNormal>(FamilyConfig{config.blocks[k++], 0, config.scale, {}}));
      }
    }
    return parts;
  }

  static Matrix sized(std::vector<double>& memory, Index rows, const Part& part) noexcept {
    memory.resize(static_cast<std::size_t>(rows * part.dim()));
    return {memory.data(), rows, part.dim()};
  }
  // A copy of a part's columns.
  static Matrix columns(ConstMatrix all, const Part& part, std::vector<double>& memory) noexcept {
    const Matrix own = sized(memory, all.rows, part);
    for (Index s = 0; s < all.rows; ++s) std::copy_n(all.row(s) + part.at, part.dim(), own.row(s));
    return own;
  }
  static void put(Matrix own, const Part& part, Matrix all) noexcept {
    for (Index s = 0; s < all.rows; ++s) std::copy_n(own.row(s), part.dim(), all.row(s) + part.at);
  }

  Parts parts_;
};

}  // namespace klqp
