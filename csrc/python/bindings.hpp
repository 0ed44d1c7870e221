// The parts of the extension module; each bind_*.cpp adds its own.
#pragma once

#include <pybind11/pybind11.h>

void bind_kernels(pybind11::module_& module);
void bind_errors(pybind11::module_& module);
void bind_bridgestan(pybind11::module_& module);
void bind_targets(pybind11::module_& module);
void bind_family(pybind11::module_& module);
void bind_bijectors(pybind11::module_& module);
void bind_optimizer(pybind11::module_& module);
void bind_run(pybind11::module_& module);
void bind_design(pybind11::module_& module);
void bind_model(pybind11::module_& module);
void bind_many(pybind11::module_& module);
void bind_search(pybind11::module_& module);
