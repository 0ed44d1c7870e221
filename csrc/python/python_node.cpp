// The boundary to the user's Python operations.
#include "python/python_node.hpp"

#include <algorithm>

#include "python/gil.hpp"

namespace klqp {

namespace py = pybind11;

PythonNode::PythonNode(py::object operation, std::vector<Slot*> inputs, Slot* output)
    : Node(std::move(inputs), output), operation_(std::move(operation)), data_(inputs_.size()) {}

PythonNode::~PythonNode() {
  const GilAcquire gil;
  operation_ = {};
  args_.release().dec_ref();
  data_.clear();
}

py::object PythonNode::argument(const Slot& slot, Index rows) const {
  py::array_t<double> copy({static_cast<py::ssize_t>(rows), static_cast<py::ssize_t>(slot.size)});
  for (Index s = 0; s < rows; ++s) std::copy_n(slot.at(s), slot.size, copy.mutable_data() + s * slot.size);
  return copy;
}

void PythonNode::data_changed() {
  const GilAcquire gil;
  for (std::size_t i = 0; i < inputs_.size(); ++i) data_[i] = {};
}

void PythonNode::forward(Index n_draws, Team&) {
  const GilAcquire gil;
  rows_ = output_->rows(n_draws);
  py::list args;
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const Slot& slot = in(i);
    if (slot.fixed) {
      if (!data_[i]) {
        data_[i] = argument(slot, 1);
        data_[i].attr("setflags")(py::arg("write") = false);
      }
      args.append(data_[i]);
    } else {
      args.append(argument(slot, rows_));
    }
  }
  args_ = args;
  const auto out = call_python(operation_.attr("forward"), args_).cast<py::array_t<double, py::array::c_style>>();
  if (out.size() != rows_ * output_->size) throw ConfigError("a Python operation returned another size than promised");
  std::copy_n(out.data(), out.size(), output_->value);
}

void PythonNode::backward(const Sweep& sweep) {
  const bool wanted = std::any_of(inputs_.begin(), inputs_.end(), [](const Slot* x) { return x->active; });
  if (!wanted) return;
  const GilAcquire gil;
  py::array_t<double> cot({static_cast<py::ssize_t>(rows_), static_cast<py::ssize_t>(output_->size)});
  std::fill_n(cot.mutable_data(), cot.size(), 0.0);  // rejected draws
  sweep.for_rows(output_->per_draw, [&](Index first, Index n) {
    std::copy_n(output_->adjoint_at(first), n * output_->size, cot.mutable_data() + first * output_->size);
  });
  const auto grads = call_python(operation_.attr("backward"), args_, cot).cast<py::list>();
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const Slot& slot = in(i);
    if (!slot.active) continue;
    const auto grad = grads[i].cast<py::array_t<double, py::array::c_style>>();
    if (grad.size() != rows_ * slot.size) throw ConfigError("a Python operation returned cotangents of another size");
    sweep.for_each_row(output_->per_draw, [&](Index s) {
      kernels().axpy(slot.size, 1.0, grad.data() + s * slot.size, slot.adjoint_at(s));
    });
  }
}

}  // namespace klqp
