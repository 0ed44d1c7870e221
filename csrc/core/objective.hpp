// Objective: estimates what a run maximises, and its gradient in the flat parameter vector, from a step's noise.
#pragma once

#include <string>

#include "core/noise.hpp"
#include "core/ranges.hpp"
#include "core/state.hpp"
#include "core/target.hpp"
#include "core/view.hpp"

namespace klqp {

// What a step learnt about the ELBO. Unless it says otherwise, a part is a mean over the accepted draws.
struct Estimate {
  double elbo = 0.0;
  double std_error = 0.0;  // NaN where one group of draws gives none
  double log_p = 0.0;      // log density of the model
  double entropy = 0.0;    // of q: its formula, or -mean log q
  double log_lik = 0.0;    // the part of log_p that belongs to data; all of it where the model has no parts
  double kl = 0.0;         // divergences by formula, which take the place of parts of log_p and of the entropy
  double penalty = 0.0;    // of the regularisers
};

// S draws from params (P) with noise (S, E). A run calls, for each step, draw, evaluate with the same arguments, then
// add_gradient; in between it screens the draws and gives the accepted ones their weights.
class Objective {
 public:
  virtual ~Objective() = default;

  virtual Index n_params() const = 0;
  virtual Index noise_dim() const = 0;
  // The parameters that a step's gradient may be other than 0 in, which change with the data of a step; null: all,
  // always.
  virtual const Ranges* touched() const { return nullptr; }
  // Whether evaluate() and add_gradient() can do without the interpreter.
  virtual bool native() const = 0;
  // Rough number of elementary operations in a step outside the user's own functions.
  virtual Index work_per_step() const = 0;

  // Makes the draws, where that can be done before anything is asked of the target.
  virtual void draw(ConstSpan /*params*/, ConstMatrix /*noise*/, Team& /*team*/) {}
  // Log densities (S) of the draws, and where it has them already their gradients (S, D). May throw.
  virtual Evaluation evaluate(ConstSpan params, ConstMatrix noise, Team& team) = 0;
  virtual Index gradient_size() const = 0;  // D
  // grad (P) += gradient of the ELBO with the given weights (S), 0 for rejected draws.
  virtual Estimate add_gradient(ConstSpan weights, const Noise& draws, Span grad, Team& team) = 0;
  // After a gradient that was not finite: the draws' own gradients, for another screening.
  virtual Evaluation look_again() = 0;
  // Which of its terms is not finite at a draw; -1 where the objective has no terms.
  virtual Index culprit(Index /*draw*/) const { return -1; }
  // Names for messages, like " of 'y'": of a term's log density, and of a coordinate of the gradient.
  virtual std::string term_name(Index /*term*/) const { return {}; }
  virtual std::string coordinate_name(Index coordinate) const { return " in coordinate " + std::to_string(coordinate); }

  // Why a draw of the last evaluate() was not finite, in the words of the density itself; empty where it has none.
  virtual std::string explain(Index /*draw*/) { return {}; }

  // Restores the constraints on params (P) after an optimizer's step.
  virtual void project(Span params) const noexcept = 0;
  // Exact step of size gamma on the entropy alone; only where proximal() is true.
  virtual void proximal_step(double gamma, Span params) const noexcept = 0;
  virtual bool proximal() const noexcept = 0;
  // Multiplies all scales of q by `factor`, its location stays.
  virtual void contract(double factor, Span params) const noexcept = 0;

  // Forgets what past steps taught.
  virtual void reset() {}
  virtual void visit_state(StateVisitor&) {}
};

}  // namespace klqp
