// Node: one operation of a program, with its batched forward and backward kernel.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "core/errors.hpp"
#include "core/parallel.hpp"
#include "model/slot.hpp"

namespace klqp {

// Neighbouring draws [begin, end).
struct DrawRange {
  Index begin, end;
};

// What a reverse sweep lets through.
struct Sweep {
  const std::vector<DrawRange>& draws;  // the draws that take part, in order: rejected ones do not
  Team& team;
  // Cotangents of log q go to the value, to q's parameters, or to both.
  bool log_q_to_value = true, log_q_to_params = true;
  // Bit k: nobody has written the adjoint of the node's input k yet, so that it is set and not added to. Only inputs
  // of may_set() are asked for.
  unsigned sets = 0;

  // Calls body(first, n) on the rows of an array: all draws that take part, or the one shared row.
  template <class Body>
  void for_rows(bool per_draw, const Body& body) const {
    if (!per_draw) return body(Index{0}, Index{1});
    for (const DrawRange& range : draws) body(range.begin, range.end - range.begin);
  }
  // Calls body(s) for each of these rows.
  template <class Body>
  void for_each_row(bool per_draw, const Body& body) const {
    for_rows(per_draw, [&](Index first, Index n) {
      for (Index s = first; s < first + n; ++s) body(s);
    });
  }
};

// Does in order, on the calling thread, what a Team shares out.
struct Alone {
  template <class Body>
  void for_range(Index n, Index grain, const Body& body) const noexcept {
    for (Index begin = 0; begin < n; begin += grain) body(begin, std::min(n, begin + grain));
  }
};

// Calls body(row, begin, end) over [0, n) of each of the rows [first, first + n_rows), in pieces of about `grain`
// elements: short rows go together.
template <class Workers, class Body>
void for_pieces(Workers& team, Index first, Index n_rows, Index n, Index grain, const Body& body) {
  if (n < grain) {
    team.for_range(n_rows, grain / n, [&](Index begin, Index end) {
      for (Index s = first + begin; s < first + end; ++s) body(s, Index{0}, n);
    });
    return;
  }
  for (Index s = first; s < first + n_rows; ++s) {
    team.for_range(n, grain, [&](Index begin, Index end) { body(s, begin, end); });
  }
}

// A node reads its inputs' values and writes its output's; backward adds to the inputs' adjoints, where they are
// active, from the output's. Both run in the order of the program, on the rows of the output: S when it has a draw
// axis, one otherwise. An output has a draw axis whenever an input has one. Nothing allocates after construction.
class Node {
 public:
  Node(std::vector<Slot*> inputs, Slot* output) : inputs_(std::move(inputs)), output_(output) {}
  virtual ~Node() = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  virtual void forward(Index n_draws, Team& team) = 0;
  virtual void backward(const Sweep& sweep) = 0;
  // Data among the inputs were set; throws ConfigError where they cannot be.
  virtual void data_changed() {}
  // Room for S draws is wanted.
  virtual void reserve(Index /*n_draws*/) {}
  // Bit k: backward() can set the adjoint of input k, all elements of all draws that take part, instead of adding.
  virtual unsigned may_set() const { return 0; }
  // backward() follows every forward().
  virtual void expect_backward() {}
  // Whether element i of the output depends on element i of the input alone.
  virtual bool elementwise() const { return false; }
  // Whether it can do without the interpreter.
  virtual bool native() const { return true; }
  // Why the last forward() could not compute a row, in the words of the user's own function; empty where it has none.
  virtual std::string explain(Index /*row*/) { return {}; }
  // Rough number of elementary operations for S draws, forward and back.
  virtual Index work(Index n_draws) const { return 8 * output_->rows(n_draws) * (output_->size + in(0).size); }

  const std::vector<Slot*>& inputs() const noexcept { return inputs_; }
  Slot& output() const noexcept { return *output_; }
  // All outputs; most nodes have one.
  virtual std::vector<Slot*> outputs() const { return {output_}; }

 protected:
  // Throws ConfigError unless there are n inputs.
  void require_inputs(std::size_t n) const {
    if (inputs_.size() == n) return;
    throw ConfigError("expected " + std::to_string(n) + (n == 1 ? " input" : " inputs") + " of the node, got " +
                      std::to_string(inputs_.size()));
  }
  Slot& in(std::size_t i) const noexcept { return *inputs_[i]; }

  std::vector<Slot*> inputs_;
  Slot* output_;
};

}  // namespace klqp
