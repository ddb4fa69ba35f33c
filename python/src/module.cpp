// The extension module _lathe: errors, the machine, and the parts that the other files bind.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "llm/plugin.h"
#include "python/src/bindings.h"
#include "tensor/cpu_features.h"
#include "tensor/errors.h"

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

std::string to_utf8(const nb::str& text) {
  Py_ssize_t size = 0;
  const char* bytes = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
  if (bytes == nullptr) throw nb::python_error();
  return {bytes, static_cast<size_t>(size)};
}

std::string to_path(const nb::object& path) {
  const Callback calling;
  const nb::module_ os = nb::module_::import_("os");
  const nb::object name = nb::bytes(os.attr("fsencode")(os.attr("path").attr("expanduser")(path)));
  const auto bytes = nb::cast<nb::bytes>(name);
  const std::string found(bytes.c_str(), bytes.size());
  if (found.find('\0') != std::string::npos)
    throw nb::value_error(fmt::format("path: found a NUL character at place {}", found.find('\0')).c_str());
  return found;
}

void refuse_unknown(const char* function, const nb::kwargs& given, std::initializer_list<const char*> known) {
  if (given.size() == 0) return;
  const Callback calling;
  nb::list names;
  for (const char* name : known) names.append(name);
  nb::module_::import_("lathe.options").attr("refuse_unknown")(function, given, names);
}

std::string to_json(const char* what, const nb::object& object) {
  const Callback calling;
  nb::object text;
  try {
    text = nb::module_::import_("json").attr("dumps")(object, nb::arg("ensure_ascii") = false,
                                                      nb::arg("allow_nan") = false);
  } catch (const nb::python_error& e) {
    if (!e.matches(PyExc_ValueError)) throw;
    throw Error(fmt::format("{}: {}", what, nb::cast<std::string>(nb::str(e.value()))));
  }
  return to_utf8(nb::str(text));
}

NB_MODULE(_lathe, m) {
  m.doc() = "The compiled part of the package lathe.";
  m.attr("__version__") = LATHE_VERSION;
  nb::set_leak_warnings(false);  // threads that the end of the process holds keep what they work with
  nb::dict members;
  members["hint"] = "";
  // By the module's own name, so that the stub knows the class to be of this module.
  const std::string name_of_error = nb::cast<std::string>(m.attr("__name__")) + ".Error";
  nb::object error =
      nb::steal(PyErr_NewExceptionWithDoc(name_of_error.c_str(), kErrorDoc, PyExc_RuntimeError, members.ptr()));
  m.attr("Error") = error;
  nb::register_exception_translator(translate, error.release().ptr());

  m.def(
      "instruction_set", [] { return std::string(name(cpu_isa())); },
      "The active instruction set, as LATHE_CPU names it: \"portable\", \"avx2\", \"neon\", ...");
  m.def(
      "load_plugin", [](const nb::object& path) { load_plugin(to_path(path)); }, nb::arg("path"),
      nb::sig("def load_plugin(path: str | os.PathLike) -> None"),
      "Loads a shared library with families of models (docs/plugins.md).\n\n"
      "Those that LATHE_PLUGINS names are loaded with the package.");
  bind_process(m);
  bind_config(m);
  bind_tokenizer(m);
  bind_model(m);
  bind_generation(m);
  bind_trainer(m);
}

}  // namespace lathe::python
