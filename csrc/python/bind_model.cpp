// Models in Python: programs built node by node, their terms and factors, and the runs made from them.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "core/run.hpp"
#include "model/bijectors/registry.hpp"
#include "model/fused/design_product.hpp"
#include "model/fused/glm.hpp"
#include "model/fused/likelihoods/registry.hpp"
#include "model/nodes/density.hpp"
#include "model/nodes/discrete_draws.hpp"
#include "model/nodes/events/event_density.hpp"
#include "model/nodes/events/registry.hpp"
#include "model/nodes/registry.hpp"
#include "model/nodes/target.hpp"
#include "model/nodes/transform.hpp"
#include "model/objective.hpp"
#include "model/program_target.hpp"
#include "python/bindings.hpp"
#include "python/design.hpp"
#include "python/feed.hpp"
#include "python/gil.hpp"
#include "python/numpy.hpp"
#include "python/python_node.hpp"
#include "python/specs.hpp"

namespace py = pybind11;
using klqp::Array, klqp::Index, klqp::Slot;

namespace {

klqp::Entropy parse_factor_entropy(const std::string& name) {
  const klqp::Entropy entropy = klqp::parse_entropy(name);
  if (entropy == klqp::Entropy::proximal) throw klqp::ConfigError("entropy 'proximal' is not for models");
  return entropy;
}

// Builds a program, naming its arrays by number; shares the model with the run made from it.
class ModelBuilder {
 public:
  using Id = std::size_t;

  Id data(const Array& values, bool feedable) {
    return keep(program().add_data({values.data(), static_cast<std::size_t>(values.size())}, feedable));
  }
  Id parameter(Index offset, Index size, bool frozen) { return keep(program().add_parameter(offset, size, frozen)); }
  Id noise(Index offset, Index size, const std::string& kind) {
    if (kind != "normal" && kind != "uniform") throw klqp::ConfigError("noise is 'normal' or 'uniform'");
    return keep(program().add_noise(offset, size, kind == "uniform"));
  }
  Id input(Index size) {
    inputs_.push_back(keep(program().add_input(size)));
    return inputs_.back();
  }

  Id node(const std::string& name, const std::vector<Id>& inputs, Index size,
          const std::map<std::string, std::vector<Index>>& integers,
          const std::map<std::string, std::vector<double>>& numbers) {
    return add(inputs, size, [&](std::vector<Slot*> in, Slot* out) {
      return klqp::make_node(name, {{integers, numbers}, std::move(in), out});
    });
  }

  Id density(const std::string& name, const std::vector<Id>& inputs, Index n, bool summed, bool scaled, bool log_q) {
    const klqp::DensityKernel* const kernel = klqp::find_density(klqp::kernels(), name);
    if (kernel == nullptr) throw klqp::ConfigError("unknown density '" + name + "'");
    return add(inputs, summed ? 1 : n, [&](std::vector<Slot*> in, Slot* out) {
      return std::make_unique<klqp::Density>(*kernel, n, klqp::Density::Options{summed, scaled, log_q}, std::move(in),
                                             out);
    });
  }

  Id event_density(const std::string& name, const std::vector<Id>& inputs, Index n_events,
                   const std::map<std::string, std::vector<Index>>& sizes, bool summed, bool scaled, bool log_q) {
    auto law = klqp::find_row(klqp::kLaws, "event density", name)({sizes, {}});
    return add(inputs, summed ? 1 : n_events, [&](std::vector<Slot*> in, Slot* out) {
      return std::make_unique<klqp::EventDensity>(
          std::move(law), n_events, klqp::EventDensity::Options{summed, scaled, log_q}, std::move(in), out);
    });
  }

  Id draw(const std::vector<Id>& inputs, Index size) {
    return add(inputs, size, [&](std::vector<Slot*> in, Slot* out) {
      return std::make_unique<klqp::LocationScaleDraw>(std::move(in), out);
    });
  }

  // A draw without a derivative.
  Id discrete_draw(const std::string& name, const std::vector<Id>& inputs, Index size,
                   const std::map<std::string, std::vector<Index>>& integers) {
    const std::vector<Slot*> in = slots_of(inputs);
    Slot* const out = program().add_draw(size, in);
    program().add_node(klqp::make_discrete_draw(name, {integers, {}}, in, out));
    return keep(out);
  }

  // Returns the numbers of the draw, and of its log density and its entropy times `factor`.
  std::tuple<Id, Id, Id> family(const klqp::FamilySpec& spec, Id params, Id noise, double factor) {
    auto member = spec.make();
    const Index dim = member->dim();
    auto draw = std::unique_ptr<klqp::FamilyDraw>();
    Slot* const out = program().add_output(dim, {slot(params), slot(noise)});
    draw = std::make_unique<klqp::FamilyDraw>(std::move(member), std::vector<Slot*>{slot(params), slot(noise)}, out);
    klqp::FamilyDraw& made = *draw;
    made.set_log_q_factor(factor);
    program().add_node(std::move(draw));
    const Id u = keep(out);
    draws_[u] = &made;
    const Id log_q = family_log_density(u, params, factor, false);
    const Id entropy = add({params}, 1, [&](std::vector<Slot*> in, Slot* to) {
      return std::make_unique<klqp::FamilyEntropy>(made, factor, std::move(in), to);
    });
    return {u, log_q, entropy};
  }

  // The log density of a family's draw, whose gradient is the score.
  Id family_score(Id draw, Id params) { return family_log_density(draw, params, 1.0, true); }

  // Returns the numbers of the values and of the log-Jacobians.
  std::pair<Id, Id> transform(const std::string& name, Index n_events, Index size, const std::vector<double>& lower,
                              const std::vector<double>& upper, Id u, Index begin) {
    auto bijector = klqp::make_bijector(name, {n_events, size, lower, upper});
    Slot* const z = program().add_output(bijector->n_constrained(), {slot(u)});
    Slot* const log_jacobian = program().add_output(bijector->n_events(), {slot(u)});
    program().add_node(
        std::make_unique<klqp::Transform>(std::move(bijector), begin, std::vector<Slot*>{slot(u)}, z, log_jacobian));
    const Id values = keep(z);
    return {values, keep(log_jacobian)};
  }

  Id target(std::shared_ptr<klqp::Target> target, bool gradients, Id z) {
    return add({z}, 1, [&](std::vector<Slot*> in, Slot* out) {
      return std::make_unique<klqp::TargetTerm>(std::move(target), gradients, std::move(in), out);
    });
  }

  Id python(py::object operation, const std::vector<Id>& inputs, Index size) {
    return add(inputs, size, [&](std::vector<Slot*> in, Slot* out) {
      return std::make_unique<klqp::PythonNode>(std::move(operation), std::move(in), out);
    });
  }

  // The log density of `value` given a predictor, summed over its rows. A weight of -1: none.
  Id glm(const std::string& name, const klqp::PredictorSpec& predictor, Id value, const std::vector<Id>& parameters,
         long weight) {
    klqp::PredictorTerms terms = terms_of(predictor);
    const auto data_of = [&](Slot* data, const char* what, bool single) {
      const bool fits = data->size == predictor.n || (single && data->size == 1);
      if (!data->fixed || !fits) {
        throw klqp::ConfigError(std::string(what) + " of a likelihood must be data of " + std::to_string(predictor.n) +
                                (single ? " numbers or one" : " numbers"));
      }
      return data;
    };
    std::vector<Slot*> in = terms.slots();
    klqp::GlmData data{predictor.n, predictor.k, data_of(slot(value), "the value", false), {}, nullptr};
    in.push_back(slot(value));
    const std::vector<Slot*> params = slots_of(parameters);
    for (Slot* x : params) {
      data.parameters.push_back(x);
      in.push_back(x);
    }
    const Slot* factor = nullptr;
    if (weight >= 0) {
      Slot* const w = data_of(slot(static_cast<Id>(weight)), "the weight", true);
      in.push_back(w);
      (w->size == 1 ? factor : data.weight) = w;
    }
    auto likelihood = klqp::find_row(klqp::kGlmLikelihoods, "likelihood", name)(std::move(data));
    Slot* const out = program().add_output(1, in);
    program().add_node(
        std::make_unique<klqp::Glm>(std::move(terms), std::move(likelihood), params, factor, std::move(in), out));
    return keep(out);
  }

  // A design matrix times coefficients (cols, k): n * k numbers.
  Id product(std::shared_ptr<klqp::DesignMatrix> design, Id coef, Index k, long rows) {
    klqp::PredictorSpec spec{rows < 0 ? design->rows() : slot(static_cast<Id>(rows))->size, k, {}, {}, {}, rows};
    spec.matrices.push_back({std::move(design), coef, 0});
    klqp::PredictorTerms terms = terms_of(spec);
    std::vector<Slot*> in = terms.slots();
    terms.check();
    Slot* const out = program().add_output(spec.n * k, in);
    program().add_node(std::make_unique<klqp::DesignProduct>(std::move(terms), std::move(in), out));
    return keep(out);
  }

  // Returns the term's number.
  std::size_t term(const std::string& kind, const std::string& name, Id id, int factor) {
    if (slot(id)->size != 1) throw klqp::ConfigError("a term must be one number");
    model_->terms.push_back({name, klqp::parse_term_kind(kind), slot(id), factor});
    return model_->terms.size() - 1;
  }

  void factor(const std::string& name, const std::string& entropy, Id draw, Index params_begin, bool by_formula) {
    klqp::FamilyDraw* const family = draws_.contains(draw) ? draws_.at(draw) : nullptr;
    model_->factors.push_back(
        {name, parse_factor_entropy(entropy), slot(draw), family, params_begin, by_formula, nullptr, {}});
  }

  // Gives a factor score-function gradients: log q of each event. Then the terms that enter its weights, by
  // scored_term().
  void score(std::size_t factor, Id log_q) { model_->factors.at(factor).scores = slot(log_q); }
  void scored_term(std::size_t factor, std::size_t term, Id elements, std::vector<Index> block_of,
                   std::vector<Index> begin, std::vector<Index> blocks) {
    model_->factors.at(factor).scored.push_back(
        {term, slot(elements), {std::move(block_of), std::move(begin), std::move(blocks)}});
  }

  void set_data(Id id, const Array& values) {
    program().set_data(slot(id), {values.data(), static_cast<std::size_t>(values.size())});
  }

  // Sets an array of data to row i of `all` (n, size) for problem i.
  klqp::Feed feed(Id id, Array all) {
    Slot* const to = slot(id);
    const auto rows = klqp::view_matrix(all, to->size, "the problems' data");
    return {[model = model_, to, rows, kept = std::move(all)](Index problem) {
      model->program.set_data(to, {rows.row(problem), static_cast<std::size_t>(rows.cols)});
    }};
  }

  // The terms as a log density of an input array, for fixed parameters. Nothing may be added or evaluated afterwards.
  std::shared_ptr<klqp::Target> as_target(Id input, const Array& params) const {
    return std::make_shared<klqp::ProgramTarget>(model_, slot(input),
                                                 std::vector<double>(params.data(), params.data() + params.size()));
  }

  Index n_params() const { return model_->program.n_params(); }
  Index noise_dim() const { return model_->program.noise_dim(); }
  std::vector<std::pair<Index, Index>> uniforms() const {
    std::vector<std::pair<Index, Index>> out;
    for (const klqp::IndexRange& range : model_->program.uniforms()) out.emplace_back(range.begin, range.end);
    return out;
  }
  bool native() const { return model_->program.native(); }
  py::tuple flags(Id id) const { return py::make_tuple(slot(id)->per_draw, slot(id)->active, slot(id)->fixed); }
  const std::shared_ptr<klqp::Model>& model() const { return model_; }

  // Noise (n, E) of draws first_draw, ... of a stream.
  Array draw_noise(std::uint64_t seed, std::uint32_t stream, std::uint32_t first_draw, Index n) {
    Array eps = klqp::new_matrix(n, std::max<Index>(1, noise_dim()));
    klqp::Team serial(1);
    klqp::fill_noise(klqp::noise_key(seed, static_cast<klqp::Stream>(stream), 0, first_draw), program().uniforms(),
                     klqp::matrix_of(eps), serial);
    return eps;
  }

  // Values (rows, size) of some arrays for given parameters (P), noise (S, E) and inputs (S, size), in the order they
  // were added.
  py::list evaluate(Index n_draws, const Array& params, const Array& noise, const std::vector<Array>& inputs,
                    const std::vector<Id>& wanted) {
    run_forward(n_draws, params, noise, inputs);
    py::list out;
    for (const Id id : wanted) {
      const Slot& from = *slot(id);
      const Index rows = from.rows(n_draws);
      Array values = klqp::new_matrix(rows, from.size);
      std::copy_n(from.value, rows * from.size, values.mutable_data());
      out.append(values);
    }
    return out;
  }

  // Cotangents of the parameters and inputs for a cotangent (rows, size) at one array; the flags are those of Sweep.
  std::pair<Array, py::list> pullback(Index n_draws, const Array& params, const Array& noise,
                                      const std::vector<Array>& inputs, Id seed, const Array& cot, bool log_q_to_value,
                                      bool log_q_to_params) {
    run_forward(n_draws, params, noise, inputs);
    Slot& from = *slot(seed);
    if (cot.size() != from.rows(n_draws) * from.size) throw klqp::ConfigError("the cotangent has another size");
    Array grad = klqp::new_vector(params.size());
    std::fill_n(grad.mutable_data(), grad.size(), 0.0);
    const klqp::SweepPlan plan = program().plan({&from});
    program().begin_sweep(plan, klqp::span_of(grad));
    if (from.active) std::copy_n(cot.data(), cot.size(), from.adjoint);
    klqp::Team serial(1);
    const std::vector<klqp::DrawRange> all{{0, n_draws}};
    klqp::Program::backward(plan, {all, serial, log_q_to_value, log_q_to_params});
    py::list out;
    for (const Id id : inputs_) {
      const Slot& to = *slot(id);
      const bool reached = std::find(plan.slots.begin(), plan.slots.end(), &to) != plan.slots.end();
      Array values = klqp::new_matrix(n_draws, to.size);
      std::fill_n(values.mutable_data(), values.size(), 0.0);
      if (reached) std::copy_n(to.adjoint, values.size(), values.mutable_data());
      out.append(values);
    }
    return {grad, out};
  }

 private:
  Id family_log_density(Id draw, Id params, double factor, bool score) {
    const klqp::FamilyDraw& made = *draws_.at(draw);
    return add({draw, params}, 1, [&](std::vector<Slot*> in, Slot* out) {
      return std::make_unique<klqp::FamilyLogDensity>(made, factor, score, std::move(in), out);
    });
  }

  template <class Make>
  Id add(const std::vector<Id>& inputs, Index size, const Make& make) {
    std::vector<Slot*> in = slots_of(inputs);
    Slot* const out = program().add_output(size, in);
    program().add_node(make(std::move(in), out));
    return keep(out);
  }
  std::vector<Slot*> slots_of(const std::vector<Id>& ids) const {
    std::vector<Slot*> out;
    for (const Id id : ids) out.push_back(slot(id));
    return out;
  }

  klqp::PredictorTerms terms_of(const klqp::PredictorSpec& spec) const {
    klqp::PredictorTerms terms;
    terms.n = spec.n;
    terms.k = spec.k;
    if (spec.n < 1 || spec.k < 1) throw klqp::ConfigError("a predictor must have rows and columns");
    for (const auto& [matrix, coef, data] : spec.matrices) {
      if (matrix != nullptr) {
        terms.matrices.push_back({matrix, slot(coef)});
        continue;
      }
      Slot* const x = slot(data);
      if (!x->fixed || x->size % spec.n != 0) {
        throw klqp::ConfigError("the data of a design matrix must be " + std::to_string(spec.n) + " rows");
      }
      terms.matrices.push_back({std::make_shared<klqp::DataMatrix>(*x, spec.n), slot(coef), x});
    }
    for (const auto& [table, index, covariate] : spec.gathers) {
      terms.gathers.push_back({slot(table), slot(index), covariate < 0 ? nullptr : slot(static_cast<Id>(covariate))});
    }
    terms.added = slots_of(spec.added);
    if (spec.rows >= 0) terms.rows = slot(static_cast<Id>(spec.rows));
    return terms;
  }

  void run_forward(Index n_draws, const Array& params, const Array& noise, const std::vector<Array>& inputs) {
    if (inputs.size() != inputs_.size()) throw klqp::ConfigError("the program has another number of inputs");
    if (params.size() < program().n_params()) throw klqp::ConfigError("too few parameters");
    if (program().n_draws() != n_draws) program().allocate(n_draws);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Slot& to = *slot(inputs_[i]);
      if (inputs[i].size() != n_draws * to.size) throw klqp::ConfigError("an input has another size");
      std::copy_n(inputs[i].data(), inputs[i].size(), to.value);
    }
    const auto eps = klqp::view_matrix(noise, std::max<Index>(1, program().noise_dim()), "noise");
    if (eps.rows != n_draws) throw klqp::ConfigError("noise must have a row for each draw");
    klqp::Team serial(1);
    program().forward({params.data(), static_cast<std::size_t>(params.size())}, eps, serial);
  }

  klqp::Program& program() { return model_->program; }
  Slot* slot(Id id) const { return slots_.at(id); }
  Id keep(Slot* slot) {
    slots_.push_back(slot);
    return slots_.size() - 1;
  }

  std::shared_ptr<klqp::Model> model_ = std::make_shared<klqp::Model>();
  std::vector<Slot*> slots_;
  std::vector<Id> inputs_;
  std::map<Id, klqp::FamilyDraw*> draws_;
};

// A Python objective: objective(log_ratio (S,)) -> (loss, derivatives (S,)).
klqp::Bound make_bound(const py::object& objective) {
  if (objective.is_none()) return {};
  return [kept = klqp::keep_alive(objective)](klqp::ConstSpan log_ratio, klqp::Span weights) {
    const klqp::GilAcquire gil;
    const Array given(static_cast<py::ssize_t>(log_ratio.size()), log_ratio.data());
    const auto result = klqp::call_python(*kept, given).cast<std::pair<double, Array>>();
    const klqp::ConstSpan slope =
        klqp::view_vector(result.second, static_cast<Index>(weights.size()), "the objective's derivatives");
    std::transform(slope.begin(), slope.end(), weights.begin(), [](double x) { return -x; });
    return result.first;
  };
}

std::unique_ptr<klqp::Run> make_model_run(const ModelBuilder& builder, const std::string& baseline,
                                          const klqp::Noise& noise, const klqp::OptimizerSpec& optimizer,
                                          const klqp::RunConfig& config, const Array& params,
                                          const py::object& objective) {
  klqp::RunParts parts;
  parts.objective = std::make_unique<klqp::ModelObjective>(
      builder.model(), klqp::ModelOptions{klqp::parse_baseline(baseline), make_bound(objective)}, noise,
      static_cast<Index>(params.size()));
  parts.noise = std::make_unique<klqp::Noise>(noise);
  parts.optimizer = optimizer.make();
  return std::make_unique<klqp::Run>(std::move(parts), config,
                                     klqp::ConstSpan{params.data(), static_cast<std::size_t>(params.size())});
}

}  // namespace

void bind_model(py::module_& module) {
  using Builder = ModelBuilder;
  py::class_<Builder>(module, "Model")
      .def(py::init<>())
      .def("data", &Builder::data, py::arg("values"), py::arg("feedable") = false)
      .def("parameter", &Builder::parameter, py::arg("offset"), py::arg("size"), py::arg("frozen") = false)
      .def("noise", &Builder::noise, py::arg("offset"), py::arg("size"), py::arg("kind") = "normal")
      .def("draw_noise", &Builder::draw_noise, py::arg("seed"), py::arg("stream"), py::arg("first_draw"), py::arg("n"))
      .def("input", &Builder::input, py::arg("size"))
      .def("node", &Builder::node, py::arg("name"), py::arg("inputs"), py::arg("size"),
           py::arg("integers") = std::map<std::string, std::vector<Index>>{},
           py::arg("numbers") = std::map<std::string, std::vector<double>>{})
      .def("density", &Builder::density, py::arg("name"), py::arg("inputs"), py::arg("n"), py::arg("summed") = true,
           py::arg("scaled") = false, py::arg("log_q") = false)
      .def("event_density", &Builder::event_density, py::arg("name"), py::arg("inputs"), py::arg("n_events"),
           py::arg("sizes"), py::arg("summed") = true, py::arg("scaled") = false, py::arg("log_q") = false)
      .def("draw", &Builder::draw, py::arg("inputs"), py::arg("size"))
      .def("discrete_draw", &Builder::discrete_draw, py::arg("name"), py::arg("inputs"), py::arg("size"),
           py::arg("integers") = std::map<std::string, std::vector<Index>>{})
      .def("family", &Builder::family, py::arg("spec"), py::arg("params"), py::arg("noise"), py::arg("factor") = 1.0)
      .def("family_score", &Builder::family_score, py::arg("draw"), py::arg("params"))
      .def("transform", &Builder::transform, py::arg("name"), py::arg("n_events"), py::arg("size"), py::arg("lower"),
           py::arg("upper"), py::arg("u"), py::arg("begin") = 0)
      .def("target", &Builder::target, py::arg("target"), py::arg("gradients"), py::arg("z"))
      .def("python", &Builder::python, py::arg("operation"), py::arg("inputs"), py::arg("size"))
      .def("glm", &Builder::glm, py::arg("name"), py::arg("predictor"), py::arg("value"), py::arg("parameters"),
           py::arg("weight") = -1)
      .def("product", &Builder::product, py::arg("design"), py::arg("coef"), py::arg("k") = 1, py::arg("rows") = -1)
      .def("term", &Builder::term, py::arg("kind"), py::arg("name"), py::arg("slot"), py::arg("factor") = -1)
      .def("score", &Builder::score, py::arg("factor"), py::arg("log_q"))
      .def("scored_term", &Builder::scored_term, py::arg("factor"), py::arg("term"), py::arg("elements"),
           py::arg("block_of"), py::arg("begin"), py::arg("blocks"))
      .def("factor", &Builder::factor, py::arg("name"), py::arg("entropy"), py::arg("draw"),
           py::arg("params_begin") = 0, py::arg("by_formula") = false)
      .def("set_data", &Builder::set_data, py::arg("slot"), py::arg("values"))
      .def("feed", &Builder::feed, py::arg("slot"), py::arg("values"))
      .def("evaluate", &Builder::evaluate, py::arg("n_draws"), py::arg("params"), py::arg("noise"), py::arg("inputs"),
           py::arg("wanted"))
      .def("pullback", &Builder::pullback, py::arg("n_draws"), py::arg("params"), py::arg("noise"), py::arg("inputs"),
           py::arg("seed"), py::arg("cot"), py::arg("log_q_to_value") = true, py::arg("log_q_to_params") = true)
      .def("as_target", &Builder::as_target, py::arg("input"), py::arg("params"))
      .def("flags", &Builder::flags, py::arg("slot"))
      .def_property_readonly("n_params", &Builder::n_params)
      .def_property_readonly("noise_dim", &Builder::noise_dim)
      .def_property_readonly("uniforms", &Builder::uniforms)
      .def_property_readonly("native", &Builder::native);
  module.def("model_run", &make_model_run, py::arg("model"), py::arg("baseline"), py::arg("noise"),
             py::arg("optimizer"), py::arg("config"), py::arg("params"), py::arg("objective") = py::none());
  module.attr("NODES") = klqp::node_names();
  module.attr("EVENT_DENSITIES") = klqp::row_names(klqp::kLaws);
}
