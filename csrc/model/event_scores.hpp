// EventScores: what the score of each event of a factor of q is multiplied by (maths.md 3.5).
//
// The score-function gradient of a factor with events i = 1 .. n is sum_s w_s sum_i (f_si - b_si) grad log q_i(z_si).
// Only those elements of the ELBO's terms enter f_si that depend on event i: its Markov blanket, and what is drawn
// given the event (Ranganath, Gerrish and Blei 2014; Schulman et al. 2015). The baseline b_si is independent of draw s
// given what event i was drawn from: a mean of f_i over the other groups of draws or over past steps, or 0.
#pragma once

#include <string>
#include <vector>

#include "core/estimator/leave_one_out.hpp"
#include "core/noise.hpp"
#include "core/state.hpp"
#include "model/node.hpp"

namespace klqp {

// Elements of a term that depend on the same events make a block; events need blocks. Compressed rows.
struct Blanket {
  std::vector<Index> block_of;       // of each element of the term; -1: no event needs it
  std::vector<Index> begin, blocks;  // event i needs blocks[begin[i] .. begin[i + 1])
  // Every event needs every element: the above is empty then.
  bool everything() const noexcept { return begin.empty(); }
  Index n_blocks() const;
  // Throws ConfigError unless it fits n_events events and a term of n elements.
  void check(Index n_events, Index n) const;
};

// One term of the ELBO as a factor needs it.
struct BlanketTerm {
  const Slot* elements = nullptr;  // one number for each element or for all of them
  double sign = 1.0;               // with which it enters the ELBO
  Blanket blanket;
};

// A blanket as it is read in every step: neighbours that are treated alike, such as a row of a plate, go together.
class BlanketRuns {
 public:
  explicit BlanketRuns(const Blanket& blanket);

  // f (events) += sign times the sums of the elements x that each event needs; block_sums has room for n_blocks().
  void add(double sign, const double* x, double* block_sums, double* f) const noexcept;
  Index n_blocks() const noexcept { return n_blocks_; }

 private:
  // Neighbouring elements of one block.
  struct Elements {
    Index begin, end, block;
  };
  // Neighbouring events that need the same blocks, blocks_[first .. last).
  struct Events {
    Index begin, end, first, last;
  };

  void sum_blocks(const double* x, double* block_sums) const noexcept;

  Index n_blocks_ = 1;
  Index n_own_ = 0;  // event i needs element i and nothing else, for so many; the rest is empty then
  std::vector<Elements> elements_;
  std::vector<Events> events_;
  std::vector<Index> blocks_;
};

class EventScores {
 public:
  // log_q (n): the log density of each event given its draw, whose gradient is the score.
  EventScores(Slot* log_q, std::vector<BlanketTerm> terms, Baseline baseline, const Noise& draws);

  Slot* log_q() const noexcept { return log_q_; }

  // Computes f (S, n) of the accepted draws, those with weights (S) other than 0.
  void collect(ConstSpan weights, Team& team) noexcept;
  // Adds w_s (f_si - b_si) to the adjoint of log_q, and learns for later baselines.
  void seed(ConstSpan weights, const Noise& draws, Team& team) noexcept;
  // Adds f_i, or 1, of one draw to the adjoint of log_q.
  void seed_raw(Index draw) noexcept;
  void seed_ones(Index draw) noexcept;

  void reset();
  void visit_state(const std::string& name, StateVisitor& visitor);

 private:
  static constexpr double kRate = 0.05;  // of the running baseline

  Index n() const noexcept { return log_q_->size; }
  void collect_draw(Index draw) noexcept;
  void seed_outside(ConstSpan weights, const Noise& draws, Team& team) noexcept;
  void seed_plain(ConstSpan weights) noexcept;
  void seed_running(ConstSpan weights, Team& team) noexcept;

  // A term that events need parts of.
  struct Part {
    const Slot* elements;
    double sign;
    BlanketRuns runs;
  };
  // A term that all events need all of.
  struct Whole {
    const Slot* elements;
    double sign;
  };

  Slot* log_q_;
  std::vector<Part> parts_;
  std::vector<Whole> wholes_;
  Baseline baseline_;
  Index most_blocks_ = 1;
  std::vector<double> f_;           // (S, n)
  std::vector<double> block_sums_;  // (S, blocks of the largest term)
  std::vector<double> groups_;      // (G, n) sums of f over groups of draws
  std::vector<double> counts_;      // (G) accepted draws
  std::vector<double> total_;       // (n) sums of f over draws
  std::vector<double> past_;        // (n) the running baseline
  double steps_ = 0.0;              // that taught it
};

}  // namespace klqp
