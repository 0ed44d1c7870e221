// Draws of discrete variables from uniforms; no cotangent flows through them.
#pragma once

#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include "core/limits.hpp"
#include "model/config.hpp"
#include "model/node.hpp"
#include "model/samplers/registry.hpp"

namespace klqp {

// z (n) ~ a distribution of discrete numbers. Inputs: its parameters, of n numbers or one, and uniforms (S, n).
class NumberDraw final : public Node {
 public:
  NumberDraw(const DiscreteSampler& sampler, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), sampler_(sampler) {
    require_inputs(sampler.n_params + 1);
    if (sampler.n_params > kMostParams) throw ConfigError("the distribution has too many parameters");
    for (std::size_t k = 0; k < sampler.n_params; ++k) {
      if (in(k).size != 1 && in(k).size != output->size) throw ConfigError("parameters must have the draw's size");
    }
    if (noise().size != output->size) throw ConfigError("the noise must have the draw's size");
  }

  void forward(Index n_draws, Team& team) override {
    const Index n = output_->size;
    if (flat()) {  // the draws' axis is one with the elements'
      team.for_range(n_draws * n, grain(), [&](Index begin, Index end) {
        draw(0, begin, end, [](const Slot& x) { return x.per_draw || x.size > 1; });
      });
      return;
    }
    for_pieces(team, 0, n_draws, n, grain(),
               [&](Index s, Index begin, Index end) { draw(s, begin, end, [](const Slot& x) { return x.size > 1; }); });
  }
  void backward(const Sweep&) override {}
  Index work(Index n_draws) const override { return n_draws * output_->size * sampler_.work; }

 private:
  static constexpr std::size_t kMostParams = 3;

  const Slot& noise() const noexcept { return in(sampler_.n_params); }
  Index grain() const noexcept { return std::max<Index>(64, 32768 / sampler_.work); }

  // Whether each parameter is, over all draws, an array of the draws' layout or one number.
  bool flat() const noexcept {
    for (std::size_t k = 0; k < sampler_.n_params; ++k) {
      const bool own = in(k).per_draw && in(k).size == output_->size;
      if (!own && (in(k).per_draw || in(k).size > 1)) return false;
    }
    return true;
  }

  // Elements [begin, end) of draw s; moves(x) tells whether a parameter has its own number for each of them.
  template <class Moves>
  void draw(Index s, Index begin, Index end, const Moves& moves) const noexcept {
    Column params[kMostParams];
    for (std::size_t k = 0; k < sampler_.n_params; ++k) {
      params[k] = Column{in(k).at(s), moves(in(k)) ? 1 : 0}.from(begin);
    }
    sampler_.draw(end - begin, noise().at(s) + begin, params, output_->at(s) + begin);
  }

  const DiscreteSampler& sampler_;
};

// Categories, one of K for each of n events: its number (n), or a vector (n, K) with a 1 at its place. Inputs: logits
// or weights (K) or (n, K), and uniforms (S, n). A category is the quantile at its uniform, so that its number does
// not decrease in it, and its probability is not 0.
class CategoryDraw final : public Node {
 public:
  struct Options {
    Index size;  // K
    bool probs;  // weights are given, not logits
    bool one_hot;
  };

  CategoryDraw(Options options, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), options_(options), n_(in(1).size) {
    require_inputs(2);
    const Index k = options.size;
    if (k < 1 || (in(0).size != k && in(0).size != n_ * k)) throw ConfigError("weights must be (K) or (n, K)");
    if (output->size != (options.one_hot ? n_ * k : n_)) throw ConfigError("the draw has another size");
  }

  void reserve(Index n_draws) override {
    cumulative_.assign(static_cast<std::size_t>(in(0).rows(n_draws) * in(0).size), 0.0);
    totals_.assign(static_cast<std::size_t>(in(0).rows(n_draws) * n_rows()), 0.0);
  }
  void data_changed() override {
    if (in(0).fixed) prepare(0, n_rows());
  }

  void forward(Index n_draws, Team& team) override {
    const bool own = in(0).per_draw && n_rows() == n_;  // weights of their own for every draw and event
    const Index grain = std::max<Index>(1, 8192 / (own ? 16 * options_.size : options_.size + 16));
    if (!own && !in(0).fixed) {
      team.for_range(in(0).rows(n_draws) * n_rows(), std::max<Index>(1, 512 / options_.size),
                     [&](Index begin, Index end) { prepare(begin, end); });
    }
    team.for_range(n_draws * n_, grain, [&](Index begin, Index end) {
      if (own) prepare(begin, end);
      for (Index t = begin; t < end; ++t) {
        const Index s = t / n_, e = t % n_;
        const Index row = (in(0).per_draw ? s * n_rows() : 0) + (n_rows() == n_ ? e : 0);
        put(t, find(row, in(1).value[t]));
      }
    });
  }
  void backward(const Sweep&) override {}
  Index work(Index n_draws) const override { return n_draws * n_ * (16 + 16 * options_.size); }

 private:
  Index n_rows() const noexcept { return in(0).size / options_.size; }

  // Sums of the first weights and of all, for rows [begin, end) of all draws; from the last category that has a
  // probability on, the sums are infinite. A total that is not positive and finite becomes NaN.
  void prepare(Index begin, Index end) noexcept {
    const Index k = options_.size;
    const double* const given = in(0).value + begin * k;
    double* const sums = cumulative_.data() + begin * k;
    const Index n = end - begin;
    if (options_.probs) {
      for (Index i = 0; i < n * k; ++i) sums[i] = given[i] >= 0.0 ? given[i] : kNaN;
    } else {
      for (Index r = 0; r < n; ++r) {
        double most = given[r * k];
        for (Index i = 1; i < k; ++i) most = std::max(most, given[r * k + i]);
        for (Index i = 0; i < k; ++i) sums[r * k + i] = given[r * k + i] - most;
      }
      kernels().exp(n * k, sums, sums);
    }
    for (Index r = 0; r < n; ++r) totals_[begin + r] = accumulate(sums + r * k);
  }

  double accumulate(double* sums) const noexcept {
    Index last = 0;
    double total = 0.0;
    for (Index i = 0; i < options_.size; ++i) {
      if (sums[i] > 0.0) last = i;
      total += sums[i];
      sums[i] = total;
    }
    std::fill(sums + last, sums + options_.size, std::numeric_limits<double>::infinity());
    return total > 0.0 && std::isfinite(total) ? total : kNaN;
  }

  // The number of sums that are at most u times the total; -1 where there is no total.
  Index find(Index row, double u) const noexcept {
    const Index k = options_.size;
    const double* const sums = cumulative_.data() + row * k;
    const double level = u * totals_[row];
    if (std::isnan(level)) return -1;
    if (k > kLong) return std::upper_bound(sums, sums + k, level) - sums;
    Index count = 0;
    for (Index i = 0; i < k; ++i) count += sums[i] <= level ? 1 : 0;
    return count;
  }
  static constexpr Index kLong = 32;

  void put(Index t, Index category) const noexcept {
    if (!options_.one_hot) {
      output_->value[t] = category < 0 ? kNaN : static_cast<double>(category);
      return;
    }
    double* const out = output_->value + t * options_.size;
    std::fill_n(out, options_.size, category < 0 ? kNaN : 0.0);
    if (category >= 0) out[category] = 1.0;
  }

  Options options_;
  Index n_;
  std::vector<double> cumulative_;  // like the weights, (rows, K)
  std::vector<double> totals_;      // (rows)
};

// The draws by name, each made from its options, inputs and output.
std::unique_ptr<Node> make_discrete_draw(const std::string& name, const NodeConfig& config, std::vector<Slot*> inputs,
                                         Slot* output);

}  // namespace klqp
