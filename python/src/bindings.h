// One function a part of the module _lathe.
#pragma once
#include <nanobind/nanobind.h>

#include <string>

namespace lathe::python {

namespace nb = nanobind;

void bind_config(nb::module_& m);
void bind_tokenizer(nb::module_& m);
void bind_generation(nb::module_& m);  // Completion, GenerationEvent, Stream
void bind_model(nb::module_& m);

// Lets Ctrl-C through while something computes without the interpreter.
void check_signals();

// json.dumps(object): conversations come as Python lists.
std::string to_json(const nb::object& object);

}  // namespace lathe::python
