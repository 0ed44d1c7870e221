// Program: nodes in topological order with their workspace; computes forward and in reverse for S draws at once.
#pragma once

#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "core/ranges.hpp"
#include "model/node.hpp"
#include "model/nodes/gather.hpp"

namespace klqp {

// The nodes that cotangents at some slots flow through, last first, with what each sets instead of adding to it
// (Sweep::sets); the slots whose adjoints they use, and those among these that start from zero.
struct SweepPlan {
  std::vector<Node*> nodes;
  std::vector<unsigned> sets;
  std::vector<Slot*> slots, cleared;
};

class Program {
 public:
  // --- building --------------------------------------------------------------------------------------------
  // Data shared by all draws; `feedable` ones are going to be set again with set_data().
  Slot* add_data(ConstSpan values, bool feedable = false);
  // The slice [offset, offset + size) of the parameters; a frozen one gets no cotangent.
  Slot* add_parameter(Index offset, Index size, bool frozen = false);
  // Columns [offset, offset + size) of the noise: standard normals, or uniforms on (0, 1), which begin at an even one.
  Slot* add_noise(Index offset, Index size, bool uniform = false);
  // Values for each draw that the caller writes, see input().
  Slot* add_input(Index size);
  // The output of a node that reads `inputs`.
  Slot* add_output(Index size, const std::vector<Slot*>& inputs);
  // The same for a draw that has no derivative in the inputs.
  Slot* add_draw(Index size, const std::vector<Slot*>& inputs);
  void add_node(std::unique_ptr<Node> node) { nodes_.push_back(std::move(node)); }

  // Makes room for S draws and evaluates what depends on data alone. Call it after building, and again for another S.
  void allocate(Index n_draws);
  // Cotangents do not go through `stops`: nodes that only lead there take no part.
  SweepPlan plan(const std::vector<Slot*>& seeds, const std::vector<Slot*>& stops = {}) const;

  // --- running ---------------------------------------------------------------------------------------------
  // Throws ConfigError where a node refuses the data; the old ones are kept then.
  void set_data(Slot* slot, ConstSpan values);
  void forward(ConstSpan params, ConstMatrix noise, Team& team);
  // Sets the plan's adjoints to zero; those of parameters are the caller's grad (P), which is added to.
  void begin_sweep(const SweepPlan& plan, Span grad) noexcept;
  static void backward(const SweepPlan& plan, const Sweep& sweep) {
    Sweep now = sweep;
    for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
      now.sets = plan.sets[i];
      plan.nodes[i]->backward(now);
    }
  }

  // Which of n parameters a sweep can reach with the present data; all but those that enter through gathers by data
  // alone. Null where data change nothing about that.
  const Ranges* touched(Index n);

  Index n_draws() const noexcept { return n_draws_; }
  Index n_params() const noexcept { return n_params_; }
  Index noise_dim() const noexcept { return noise_dim_; }
  const Ranges& uniforms() const noexcept { return uniforms_; }  // among the noise's columns
  bool native() const noexcept;
  // Why a node could not compute a draw in the last forward(); empty where no node says so.
  std::string explain(Index draw);
  Index work_per_step() const noexcept;

 private:
  struct Leaf {
    Slot* slot;
    Index offset;
  };

  Slot* add_slot(Index size, bool per_draw, bool active, bool fixed);
  std::vector<const Gather*> gathers_of(const Slot* slot) const;
  void find_gathered();
  void refresh(const std::vector<Node*>& nodes);
  const std::vector<Node*>& readers(const Slot* data);

  std::deque<Slot> slots_;
  std::deque<std::vector<double>> values_, adjoints_;  // of slots_, where they are the program's own
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<Node*> moving_;                                    // nodes that a step evaluates
  std::unordered_map<const Slot*, std::vector<Node*>> readers_;  // of data, by what has been set so far
  std::vector<double> before_;                                   // what set_data() replaces
  std::vector<Leaf> parameters_, noises_;
  // The parameters that nothing but gathers, perhaps after elementwise functions, reads.
  std::vector<std::pair<Leaf, std::vector<const Gather*>>> gathered_;
  std::vector<const Slot*> feedable_;
  Ranges touched_, uniforms_;
  bool touched_is_old_ = true;
  Index n_draws_ = 0, n_params_ = 0, noise_dim_ = 0;
  bool noise_lent_ = false;  // one array is all of the noise: it points there
};

}  // namespace klqp
