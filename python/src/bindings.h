// One function a part of the module _lathe, and what they share: the interpreter, held and let go.
#pragma once
#include <nanobind/nanobind.h>

#include <initializer_list>
#include <string>

namespace lathe::python {

namespace nb = nanobind;

void bind_config(nb::module_& m);
void bind_tokenizer(nb::module_& m);
void bind_generation(nb::module_& m);  // Stream
void bind_model(nb::module_& m);
void bind_trainer(nb::module_& m);
void bind_process(nb::module_& m);  // threads, fork, exit

// The interpreter is free while this lives. When the process ends, a thread that is not the ending one stays in the
// destructor for ever: Python before 3.14 would end it there by unwinding its C++ frames, which aborts the process.
class Released {
 public:
  Released();
  ~Released();
  Released(const Released&) = delete;
  Released& operator=(const Released&) = delete;

 private:
  PyThreadState* state_;
};

// Python code runs within C++ frames while this lives: the end of the process waits for it, and lets no more in, for
// the same reason.
class Callback {
 public:
  Callback();
  ~Callback();
  Callback(const Callback&) = delete;
  Callback& operator=(const Callback&) = delete;
};

// Runs f without the interpreter.
template <class F>
auto without_interpreter(F&& f) {
  const Released released;
  return f();
}

// For a Poll (computing.h): lets Ctrl-C through to the main thread, and ends what computes when the process ends.
void check_signals();

// The UTF-8 of a str. Raises UnicodeEncodeError, which names the place, for a lone surrogate.
std::string to_utf8(const nb::str& text);
// A str, bytes or os.PathLike as a path, with ~ expanded. Raises ValueError for a NUL within.
std::string to_path(const nb::object& path);
// Raises TypeError for a keyword of `given`, naming the nearest of `known`.
void refuse_unknown(const char* function, const nb::kwargs& given, std::initializer_list<const char*> known);
// The JSON of what templates are given. Raises lathe.Error naming `what` for NaN, and what json.dumps and to_utf8
// raise.
std::string to_json(const char* what, const nb::object& object);

}  // namespace lathe::python
