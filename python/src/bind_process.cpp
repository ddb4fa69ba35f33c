// The process around the library: Ctrl-C, threads, fork, and its end.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include "python/src/bindings.h"
#include "python/src/computing.h"
#include "tensor/errors.h"
#include "tensor/threads.h"

namespace lathe::python {
namespace {

struct Ending {};  // what a computation is ended with when the process ends

std::atomic<unsigned long> main_thread = 0;    // where Python hears signals
std::atomic<unsigned long> ending_thread = 0;  // which ends the process; 0: none yet
std::atomic<int> unfinished = 0;               // threads that are about to take the interpreter again, and callbacks
thread_local int callbacks = 0;                // of this thread

[[noreturn]] void stay_for_ever() {
  unfinished -= callbacks;
  while (true) pause();
}

bool process_ends() { return ending_thread != 0 && ending_thread != PyThread_get_thread_ident(); }

void remember_main_thread() {
  main_thread = nb::cast<unsigned long>(nb::module_::import_("threading").attr("main_thread")().attr("ident"));
}

// At exit, before Python is taken apart: computations end at their next step, and no thread comes back from then on.
void end_of_process() {
  ending_thread = PyThread_get_thread_ident();
  const Released released;
  static_cast<void>(new Stillness);  // until the process is gone
  while (unfinished > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

std::unique_ptr<Stillness> still_while_forking;

void before_fork() {
  const Released released;
  still_while_forking = std::make_unique<Stillness>();
}

void after_fork_in_child() {
  static_cast<void>(still_while_forking.release());  // of a gate that is forgotten
  forget_other_threads();
  remember_main_thread();
}

void change_threads(int threads) {
  check(threads >= 1 && threads <= 1024, "set_threads", "expected 1 to 1024, found {}", threads);
  const Released released;
  const Stillness still(check_signals);
  set_threads(threads);
}

}  // namespace

Released::Released() : state_(PyEval_SaveThread()) {}

Released::~Released() {
  ++unfinished;
  if (process_ends()) {
    --unfinished;
    stay_for_ever();
  }
  PyEval_RestoreThread(state_);
  --unfinished;
}

Callback::Callback() {
  ++unfinished;
  if (process_ends()) {
    --unfinished;
    if (PyGILState_Check() != 0) PyEval_SaveThread();
    stay_for_ever();
  }
  ++callbacks;
}

Callback::~Callback() {
  --callbacks;
  --unfinished;
}

void check_signals() {
  if (process_ends()) throw Ending();
  if (PyThread_get_thread_ident() != main_thread) return;
  // Taking the interpreter from a busy thread costs milliseconds: not at every token.
  using Clock = std::chrono::steady_clock;
  static Clock::time_point last;  // of the main thread
  if (Clock::now() - last < std::chrono::milliseconds(20)) return;
  last = Clock::now();
  const nb::gil_scoped_acquire acquired;
  if (PyErr_CheckSignals() != 0) throw nb::python_error();
}

void bind_process(nb::module_& m) {
  m.def("set_threads", &change_threads, nb::arg("threads"),
        "How many threads compute; by default the physical cores that the process may use. Waits for the step that a "
        "model computes just now. Results do not depend on it.");
  remember_main_thread();
  nb::module_::import_("atexit").attr("register")(nb::cpp_function(end_of_process));
  nb::module_::import_("os").attr("register_at_fork")(
      nb::arg("before") = nb::cpp_function(before_fork),
      nb::arg("after_in_parent") = nb::cpp_function([] { still_while_forking.reset(); }),
      nb::arg("after_in_child") = nb::cpp_function(after_fork_in_child));
}

}  // namespace lathe::python
