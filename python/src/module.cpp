// The extension module _lathe: errors, the machine, and the parts that the other files bind.
#include <nanobind/nanobind.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/string.h>

#include "llm/plugin.h"
#include "python/src/bindings.h"
#include "tensor/cpu_features.h"
#include "tensor/errors.h"
#include "tensor/threads.h"

namespace lathe::python {
namespace {

const char* const kErrorDoc =
    "What is wrong with an input, a file or a request: operation, fact, expected, found.\n\n"
    "`hint` says what to do about it, where that is known; it is shown with the traceback.";

// lathe::Error becomes lathe.Error with its hint, which Python 3.11 and later print as a note.
void translate(const std::exception_ptr& exception, void* type) {
  try {
    std::rethrow_exception(exception);
  } catch (const Error& e) {
    nb::object error = nb::handle(static_cast<PyObject*>(type))(e.what());
    error.attr("hint") = e.hint();
    if (!e.hint().empty() && nb::hasattr(error, "add_note")) error.attr("add_note")("hint: " + e.hint());
    PyErr_SetObject(static_cast<PyObject*>(type), error.ptr());
  }
}

}  // namespace

std::string to_json(const nb::object& object) {
  return nb::cast<std::string>(nb::module_::import_("json").attr("dumps")(object));
}

NB_MODULE(_lathe, m) {
  m.doc() = "The compiled part of the package lathe.";
  nb::dict members;
  members["hint"] = "";
  // By the module's own name, so that the stub knows the class to be of this module.
  const std::string name_of_error = nb::cast<std::string>(m.attr("__name__")) + ".Error";
  nb::object error =
      nb::steal(PyErr_NewExceptionWithDoc(name_of_error.c_str(), kErrorDoc, PyExc_RuntimeError, members.ptr()));
  m.attr("Error") = error;
  nb::register_exception_translator(translate, error.release().ptr());

  m.def(
      "set_threads",
      [](int threads) {
        check(threads >= 1 && threads <= 1024, "set_threads", "expected 1 to 1024, found {}", threads);
        set_threads(threads);
      },
      nb::arg("threads"),
      "How many threads compute; by default the physical cores that the process may use. Not while a model computes. "
      "Results do not depend on it.");
  m.def(
      "instruction_set", [] { return std::string(name(cpu_isa())); },
      "The instruction set in force: \"portable\", \"avx2\", \"avx512\", \"avx512_vnni\" or \"amx\".");
  m.def(
      "load_plugin", [](const std::filesystem::path& path) { load_plugin(path.string()); }, nb::arg("path"),
      "Loads a shared library with families of models (docs/plugins.md).\n\n"
      "Those that LATHE_PLUGINS names are loaded with the package.");
  bind_config(m);
  bind_tokenizer(m);
  bind_generation(m);
  bind_model(m);
}

}  // namespace lathe::python
