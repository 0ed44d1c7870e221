// EventDensity: the log density of events, each under a law, summed over the events or not.
#pragma once

#include <array>
#include <memory>

#include "model/node.hpp"
#include "model/nodes/events/law.hpp"

namespace klqp {

// Inputs: the value, the law's parameters, and where `scaled` a factor; each for every event or one for all of them.
// Output: one number, or where `summed` is false one for each event.
class EventDensity final : public Node {
 public:
  struct Options {
    bool summed = true;
    bool scaled = false;
    bool log_q = false;  // belongs to q: sweeps choose where its cotangents go
  };

  EventDensity(std::unique_ptr<Law> law, Index n_events, Options options, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), law_(std::move(law)), n_(n_events), options_(options) {
    n_args_ = law_->widths.size();
    check_at_least("the number of events", n_events, 1);
    if (inputs_.size() != n_args_ + (options.scaled ? 1 : 0)) {
      throw ConfigError("the density takes a value and " + std::to_string(n_args_ - 1) + " parameters");
    }
    for (std::size_t k = 0; k < inputs_.size(); ++k) {
      if (in(k).size != width(k) && in(k).size != n_ * width(k)) {
        throw ConfigError("argument " + std::to_string(k) + " of the density must have " + std::to_string(width(k)) +
                          " numbers for each event or for all, not " + std::to_string(in(k).size));
      }
      if (k == 0 || k >= n_args_) continue;
      prepared_per_draw_ |= in(k).per_draw;
      prepared_per_event_ |= in(k).size != width(k);
      prepared_fixed_ &= in(k).fixed;
    }
    if (output->size != (options.summed ? 1 : n_)) throw ConfigError("the density has another size than its output");
    has_base_ = law_->base_args != 0;
    fixed_base_ = has_base_;
    for (std::size_t k = 0; k < n_args_; ++k) {
      if ((law_->base_args >> k & 1u) != 0 && !in(k).fixed) fixed_base_ = false;
    }
  }

  void reserve(Index n_draws) override {
    const Index rows = output_->rows(n_draws);
    log_probs_.assign(static_cast<std::size_t>(rows * n_), 0.0);
    scaled_.assign(static_cast<std::size_t>(options_.scaled && options_.summed ? n_ : 0), 0.0);
    saved_.assign(static_cast<std::size_t>(rows * n_ * law_->n_saved), 0.0);
    prepared_.assign(static_cast<std::size_t>(prepared_rows(rows) * prepared_events() * law_->n_prepared), 0.0);
    scratch_.assign(static_cast<std::size_t>(kMostChunks * law_->n_scratch), 0.0);
    if (fixed_base_) base_.assign(static_cast<std::size_t>(n_), 0.0);
    part_size_ = 0;
    for (std::size_t k = 0; k < n_args_; ++k) {
      part_offsets_[k] = part_size_;
      if (shared_along_axis(k)) part_size_ += width(k);
    }
    // Where draws are rejected fewer of them may make more chunks.
    parts_.assign(static_cast<std::size_t>(std::min(kMostChunks, n_ > 1 ? n_ : rows) * part_size_), 0.0);
  }

  // What data alone decide, once.
  void data_changed() override {
    Team serial(1);
    if (prepared_fixed_) prepare(1, serial);
    if (!fixed_base_) return;
    for (Index e = 0; e < n_; ++e) {
      std::array<const double*, kMostArgs> args{};
      point_to(0, e, args);
      base_[static_cast<std::size_t>(e)] = law_->log_base(args.data());
    }
  }

  void forward(Index n_draws, Team& team) override {
    const Index rows = output_->rows(n_draws);
    if (!prepared_fixed_) prepare(rows, team);
    for_items(rows * n_, team, [&](Index t, double* scratch) {
      std::array<const double*, kMostArgs> args{};
      const Index s = t / n_, e = t % n_;
      point_to(s, e, args);
      double value = law_->log_prob(args.data(), prepared(s, e), &saved_[t * law_->n_saved], scratch);
      if (fixed_base_) {
        value += base_[e];
      } else if (has_base_) {
        value += law_->log_base(args.data());
      }
      log_probs_[t] = value;
    });
    for (Index s = 0; s < rows; ++s) {
      const double* from = &log_probs_[s * n_];
      if (options_.scaled) {
        double* const to = options_.summed ? scaled_.data() : output_->at(s);
        for (Index e = 0; e < n_; ++e) to[e] = times(factor(s, e), from[e]);
        from = to;
      } else if (!options_.summed) {
        std::copy_n(from, n_, output_->at(s));
      }
      if (options_.summed) output_->value[s] = kernels().sum(n_, from);
    }
  }

  void backward(const Sweep& sweep) override {
    const unsigned wanted = wanted_args(sweep);
    if (wanted == 0) return;
    sweep.for_rows(output_->per_draw, [&](Index first, Index rows) {
      if (n_ == 1) return pull(first, 0, rows, wanted, sweep.team);
      for (Index s = first; s < first + rows; ++s) pull(s, 0, n_, wanted, sweep.team);
    });
  }

  Index work(Index n_draws) const override { return output_->rows(n_draws) * n_ * law_->work; }

 private:
  static constexpr Index kMostChunks = 16;
  static constexpr std::size_t kMostArgs = 4;

  static double times(double factor, double x) noexcept { return factor == 0.0 ? 0.0 : factor * x; }

  Index width(std::size_t k) const noexcept { return k < n_args_ ? law_->widths[k] : 1; }
  // The axis that is cut into chunks in reverse: events, or draws of the one event.
  bool shared_along_axis(std::size_t k) const noexcept {
    if (!in(k).active) return false;
    return n_ > 1 ? in(k).size == width(k) : output_->per_draw && !in(k).per_draw;
  }
  Index prepared_rows(Index rows) const noexcept { return prepared_per_draw_ ? rows : 1; }
  Index prepared_events() const noexcept { return prepared_per_event_ ? n_ : 1; }
  double* prepared(Index s, Index e) noexcept {
    const Index row = prepared_per_draw_ ? s : 0, event = prepared_per_event_ ? e : 0;
    return prepared_.data() + (row * prepared_events() + event) * law_->n_prepared;
  }
  Index grain(Index n) const noexcept {
    return std::max(std::max<Index>(1, 8192 / law_->work), (n + kMostChunks - 1) / kMostChunks);
  }
  Index n_chunks(Index n) const noexcept { return (n + grain(n) - 1) / grain(n); }

  const double* at(std::size_t k, Index s, Index e) const noexcept {
    return in(k).at(s) + (in(k).size == width(k) ? 0 : e * width(k));
  }
  double* adjoint_at(std::size_t k, Index s, Index e) const noexcept {
    return in(k).adjoint_at(s) + (in(k).size == width(k) ? 0 : e * width(k));
  }
  double factor(Index s, Index e) const noexcept { return *at(n_args_, s, e); }
  void point_to(Index s, Index e, std::array<const double*, kMostArgs>& args) const noexcept {
    for (std::size_t k = 0; k < n_args_; ++k) args[k] = at(k, s, e);
  }

  // Calls body(item, scratch) for the items [0, n).
  template <class Body>
  void for_items(Index n, Team& team, const Body& body) {
    const Index step = grain(n);
    team.for_range(n, step, [&](Index begin, Index end) {
      double* const scratch = scratch_.data() + begin / step * law_->n_scratch;
      for (Index t = begin; t < end; ++t) body(t, scratch);
    });
  }

  void prepare(Index rows, Team& team) {
    if (law_->n_prepared == 0) return;
    bool gradients = false;
    for (std::size_t k = 1; k < n_args_; ++k) gradients |= in(k).active;
    const Index events = prepared_events(), total = prepared_rows(rows) * events;
    const std::size_t run = law_->prepared_in_runs;
    if (run != 0 && in(run).rows(rows) * in(run).size == total * width(run)) {
      team.for_range(total, grain(total), [&](Index begin, Index end) {
        law_->prepare_run(end - begin, in(run).value + begin * width(run), prepared_.data() + begin * law_->n_prepared);
      });
      return;
    }
    for_items(total, team, [&](Index t, double* scratch) {
      std::array<const double*, kMostArgs> args{};
      for (std::size_t k = 1; k < n_args_; ++k) args[k] = at(k, t / events, t % events);
      law_->prepare(args.data(), gradients, prepared_.data() + t * law_->n_prepared, scratch);
    });
  }

  unsigned wanted_args(const Sweep& sweep) const noexcept {
    unsigned wanted = 0;
    for (std::size_t k = 0; k < n_args_; ++k) {
      const bool let_through = !options_.log_q || (k == 0 ? sweep.log_q_to_value : sweep.log_q_to_params);
      if (in(k).active && let_through) wanted |= 1u << k;
    }
    return wanted & ~law_->no_gradient;
  }

  // Adds the cotangents of n events of draw s, or of n draws of the one event.
  void pull(Index s, Index e, Index n, unsigned wanted, Team& team) {
    const Index step = grain(n);
    const bool in_parts = n_chunks(n) > 1;
    std::fill(parts_.begin(), parts_.end(), 0.0);
    team.for_range(n, step, [&](Index begin, Index end) {
      double* const scratch = scratch_.data() + begin / step * law_->n_scratch;
      double* const part = parts_.data() + begin / step * part_size_;
      for (Index t = begin; t < end; ++t) {
        const Index draw = n_ > 1 ? s : s + t, event = n_ > 1 ? e + t : 0;
        std::array<double*, kMostArgs> grads{};
        for (std::size_t k = 0; k < n_args_; ++k) {
          if ((wanted >> k & 1u) == 0) continue;
          grads[k] = in_parts && shared_along_axis(k) ? part + part_offsets_[k] : adjoint_at(k, draw, event);
        }
        pull_one(draw, event, grads, scratch);
      }
    });
    if (!in_parts) return;
    for (std::size_t k = 0; k < n_args_; ++k) {
      if ((wanted >> k & 1u) == 0 || !shared_along_axis(k)) continue;
      for (Index chunk = 0; chunk < n_chunks(n); ++chunk) {
        kernels().axpy(width(k), 1.0, parts_.data() + chunk * part_size_ + part_offsets_[k], adjoint_at(k, s, e));
      }
    }
  }

  void pull_one(Index s, Index e, const std::array<double*, kMostArgs>& grads, double* scratch) {
    const Index item = s * n_ + e;
    double cot = output_->adjoint_at(s)[options_.summed ? 0 : e];
    if (options_.scaled) cot = times(factor(s, e), cot);
    if (cot == 0.0 || std::isinf(log_probs_[item])) return;
    if (std::isnan(log_probs_[item])) {
      for (std::size_t k = 0; k < n_args_; ++k) {
        for (Index i = 0; grads[k] != nullptr && i < width(k); ++i) grads[k][i] = kNaN;
      }
      return;
    }
    std::array<const double*, kMostArgs> args{};
    point_to(s, e, args);
    law_->add_gradient(args.data(), prepared(s, e), &saved_[item * law_->n_saved], cot, grads.data(), scratch);
  }

  std::unique_ptr<Law> law_;
  Index n_;
  Options options_;
  std::size_t n_args_;
  bool prepared_per_draw_ = false, prepared_per_event_ = false, prepared_fixed_ = true;
  bool has_base_ = false, fixed_base_ = false;  // fixed: decided by data alone
  std::array<Index, kMostArgs> part_offsets_{};
  Index part_size_ = 0;
  std::vector<double> log_probs_;  // (rows, events), not scaled
  std::vector<double> scaled_;     // (events)
  std::vector<double> saved_;      // (rows, events, n_saved)
  std::vector<double> prepared_;   // (rows or 1, events or 1, n_prepared)
  std::vector<double> base_;       // (events)
  std::vector<double> scratch_;    // (chunks, n_scratch)
  std::vector<double> parts_;      // (chunks, part_size)
};

}  // namespace klqp
