// PythonNode: an operation of a program that is written in Python.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <vector>

#include "model/node.hpp"

namespace klqp {

// `operation.forward(args)` gets a list of arrays (rows, size), one for each input, and returns a C-contiguous float64
// array (rows, size) of the output; `operation.backward(args, cot)` returns a list with a like array of cotangents for
// each active input and None for the others. Rows are S where the array has a draw axis, and 1 where not; active inputs
// without one are seen once a draw and their cotangents come back once a draw. Arrays of data are read-only and stay
// the same from call to call; the others are copies that the operation may keep. Exceptions pass through unchanged.
class PythonNode final : public Node {
 public:
  PythonNode(pybind11::object operation, std::vector<Slot*> inputs, Slot* output);
  ~PythonNode() override;

  void data_changed() override;
  void forward(Index n_draws, Team& team) override;
  void backward(const Sweep& sweep) override;
  bool native() const override { return false; }

 private:
  pybind11::object argument(const Slot& slot, Index rows) const;

  pybind11::object operation_;
  pybind11::list args_;                 // of the last forward
  std::vector<pybind11::object> data_;  // by input, null where it is no data
  Index rows_ = 0;
};

}  // namespace klqp
