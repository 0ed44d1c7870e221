// Families in Python: a member of a family, its densities, draws and pullbacks.
#include <pybind11/stl.h>

#include "core/family/registry.hpp"
#include "core/noise.hpp"
#include "python/bindings.hpp"
#include "python/numpy.hpp"
#include "python/specs.hpp"

namespace py = pybind11;
using klqp::Array, klqp::Index, klqp::Matrix;

namespace {

// One member of a family. Serial; const methods may be called from several threads.
class Member {
 public:
  Member(const klqp::FamilySpec& spec, const Array& params) : family_(spec.make()) {
    klqp::Team serial(1);
    family_->prepare(klqp::view_vector(params, family_->n_params(), "params"), serial);
  }

  Index dim() const { return family_->dim(); }
  Index noise_dim() const { return family_->noise_dim(); }

  Array transform(const Array& noise) const {
    const auto eps = klqp::view_matrix(noise, noise_dim(), "noise");
    Array z = klqp::new_matrix(eps.rows, dim());
    klqp::Team serial(1);
    family_->transform(eps, klqp::matrix_of(z), serial);
    return z;
  }

  Array noise(std::uint64_t seed, std::uint32_t stream, std::uint32_t first_draw, Index n) const {
    Array eps = klqp::new_matrix(n, noise_dim());
    klqp::Team serial(1);
    klqp::fill_noise(klqp::noise_key(seed, static_cast<klqp::Stream>(stream), 0, first_draw), {}, klqp::matrix_of(eps),
                     serial);
    return eps;
  }

  Array log_density(const Array& z) const { return log_density_at(standardise(z)); }

  // log q at the draws of `noise`. Unlike log_density(transform(noise)) it does not have to solve for the noise, so
  // that it is accurate for ill-conditioned members too.
  Array log_density_of_noise(const Array& noise) const { return log_density_at(standardise_noise(noise)); }

  Array standardise(const Array& z) const {
    const auto points = klqp::view_matrix(z, dim(), "z");
    Array e = klqp::new_matrix(points.rows, noise_dim());
    klqp::Team serial(1);
    family_->standardise(points, klqp::matrix_of(e), serial);
    return e;
  }

  Array standardise_noise(const Array& noise) const {
    const auto eps = klqp::view_matrix(noise, noise_dim(), "noise");
    Array e = klqp::new_matrix(eps.rows, noise_dim());
    klqp::Team serial(1);
    family_->standardise_noise(eps, klqp::matrix_of(e), serial);
    return e;
  }

  // Minus the gradient of log q: Sigma^-1 (z - mu) for a Normal.
  Array precision_times(const Array& z) const {
    const Array e = standardise(z);
    Array out = klqp::new_matrix(e.shape(0), dim());
    std::fill_n(out.mutable_data(), out.size(), 0.0);
    const std::vector<double> ones(static_cast<std::size_t>(e.shape(0)), 1.0);
    klqp::Team serial(1);
    family_->add_precision(klqp::view_matrix(e, noise_dim(), "e"), ones, klqp::matrix_of(out), serial);
    return out;
  }

  Array pullback(const Array& noise, const Array& cot) const {
    Array grad = zeros();
    klqp::Team serial(1);
    family_->add_pullback(klqp::view_matrix(noise, noise_dim(), "noise"), klqp::view_matrix(cot, dim(), "cot"),
                          klqp::span_of(grad), serial);
    return grad;
  }

  Array score(const Array& z, const Array& weights) const {
    const Array e = standardise(z);
    Array scratch = klqp::new_matrix(e.shape(0), dim());
    Array grad = zeros();
    klqp::Team serial(1);
    family_->add_score(klqp::view_matrix(e, noise_dim(), "e"), klqp::view_vector(weights, e.shape(0), "weights"),
                       klqp::matrix_of(scratch), klqp::span_of(grad), serial);
    return grad;
  }

  Array entropy_gradient() const {
    Array grad = zeros();
    family_->add_entropy_gradient(1.0, klqp::span_of(grad));
    return grad;
  }

  double entropy() const { return family_->entropy(); }

  Array mean() const {
    Array out = klqp::new_vector(dim());
    family_->mean(klqp::span_of(out));
    return out;
  }
  Array stddev() const {
    Array out = klqp::new_vector(dim());
    family_->stddev(klqp::span_of(out));
    return out;
  }
  Array covariance() const {
    Array out = klqp::new_matrix(dim(), dim());
    family_->covariance(klqp::matrix_of(out));
    return out;
  }

 private:
  Array log_density_at(const Array& e) const {
    Array logq = klqp::new_vector(e.shape(0));
    klqp::Team serial(1);
    family_->log_density(klqp::view_matrix(e, noise_dim(), "e"), klqp::span_of(logq), serial);
    return logq;
  }

  Array zeros() const {
    Array out = klqp::new_vector(family_->n_params());
    std::fill_n(out.mutable_data(), out.size(), 0.0);
    return out;
  }

  std::unique_ptr<klqp::Family> family_;
};

Array start_params(const klqp::FamilySpec& spec, const Array& loc, const Array& scale, std::uint64_t seed) {
  const auto family = spec.make();
  Array params = klqp::new_vector(family->n_params());
  family->start(klqp::view_vector(loc, family->dim(), "loc"), klqp::view_vector(scale, family->dim(), "scale"), seed,
                klqp::span_of(params));
  return params;
}

// Applies `change` to a copy of params.
template <class Change>
Array changed(const klqp::FamilySpec& spec, const Array& params, const Change& change) {
  const auto family = spec.make();
  Array out = klqp::new_vector(family->n_params());
  const auto view = klqp::view_vector(params, family->n_params(), "params");
  std::copy(view.begin(), view.end(), out.mutable_data());
  change(*family, klqp::span_of(out));
  return out;
}

}  // namespace

void bind_family(py::module_& module) {
  using klqp::FamilySpec;
  py::class_<FamilySpec>(module, "FamilySpec")
      .def(py::init([](std::string name, Index dim, Index rank, const std::string& scale, double df, Index components,
                       std::vector<Index> blocks) {
             FamilySpec spec{std::move(name),
                             {dim, rank, klqp::parse_scale_link(scale), df, components, std::move(blocks)}};
             (void)spec.make();  // refuses what cannot be
             return spec;
           }),
           py::arg("name"), py::arg("dim"), py::arg("rank") = 0, py::arg("scale") = "exp", py::arg("df") = 0.0,
           py::arg("components") = 0, py::arg("blocks") = std::vector<Index>{})
      .def_property_readonly("name", [](const FamilySpec& spec) { return spec.name; })
      .def_property_readonly("dim", [](const FamilySpec& spec) { return spec.config.dim; })
      .def_property_readonly("rank", [](const FamilySpec& spec) { return spec.config.rank; })
      .def_property_readonly("scale", [](const FamilySpec& spec) { return klqp::scale_link_name(spec.config.scale); })
      .def_property_readonly("df", [](const FamilySpec& spec) { return spec.config.df; })
      .def_property_readonly("components", [](const FamilySpec& spec) { return spec.config.components; })
      .def_property_readonly("normal", [](const FamilySpec& spec) { return spec.make()->normal(); })
      .def_property_readonly("pathwise", [](const FamilySpec& spec) { return spec.make()->pathwise(); })
      .def_property_readonly("has_entropy", [](const FamilySpec& spec) { return spec.make()->has_entropy(); })
      .def_property_readonly("blocks", [](const FamilySpec& spec) { return py::tuple(py::cast(spec.config.blocks)); })
      .def_property_readonly("n_params", [](const FamilySpec& spec) { return spec.make()->n_params(); })
      .def_property_readonly("noise_dim", [](const FamilySpec& spec) { return spec.make()->noise_dim(); })
      .def("start", start_params, py::arg("loc"), py::arg("scale"), py::arg("seed"))
      .def("project",
           [](const FamilySpec& spec, const Array& params) {
             return changed(spec, params, [](const klqp::Family& f, klqp::Span p) { f.project(p); });
           })
      .def("proximal_step",
           [](const FamilySpec& spec, const Array& params, double gamma) {
             return changed(spec, params, [=](const klqp::Family& f, klqp::Span p) { f.proximal_step(gamma, p); });
           })
      .def("contract", [](const FamilySpec& spec, const Array& params, double factor) {
        return changed(spec, params, [=](const klqp::Family& f, klqp::Span p) { f.contract(factor, p); });
      });
  py::class_<Member>(module, "Member")
      .def(py::init<const FamilySpec&, const Array&>(), py::arg("spec"), py::arg("params"))
      .def("transform", &Member::transform, py::arg("noise"))
      .def("noise", &Member::noise, py::arg("seed"), py::arg("stream"), py::arg("first_draw"), py::arg("n"))
      .def("log_density", &Member::log_density, py::arg("z"))
      .def("log_density_of_noise", &Member::log_density_of_noise, py::arg("noise"))
      .def("standardise", &Member::standardise, py::arg("z"))
      .def("standardise_noise", &Member::standardise_noise, py::arg("noise"))
      .def("precision_times", &Member::precision_times, py::arg("z"))
      .def("pullback", &Member::pullback, py::arg("noise"), py::arg("cot"))
      .def("score", &Member::score, py::arg("z"), py::arg("weights"))
      .def("entropy", &Member::entropy)
      .def("entropy_gradient", &Member::entropy_gradient)
      .def("mean", &Member::mean)
      .def("stddev", &Member::stddev)
      .def("covariance", &Member::covariance);
  module.attr("FAMILIES") = klqp::row_names(klqp::kFamilies);
}
