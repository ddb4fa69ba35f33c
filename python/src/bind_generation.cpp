// lathe.Completion, lathe.GenerationEvent and lathe.Stream: what generation gives back.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "python/src/bindings.h"
#include "python/src/model.h"

namespace lathe::python {

void check_signals() {
  const nb::gil_scoped_acquire acquired;
  if (PyErr_CheckSignals() != 0) throw nb::python_error();
}

void bind_generation(nb::module_& m) {
  using L = TokenLogprobs;
  nb::class_<L>(m, "TokenLogprobs", "Natural log-probabilities of one step, before penalties and temperature.")
      .def_prop_ro(
          "token", [](const L& l) { return l.chosen.token; }, "the id that was chosen")
      .def_prop_ro(
          "logprob", [](const L& l) { return l.chosen.logprob; }, "its log-probability")
      .def_prop_ro(
          "top",
          [](const L& l) {
            std::vector<std::pair<int32_t, float>> top;
            for (const TokenLogprob& t : l.top) top.emplace_back(t.token, t.logprob);
            return top;
          },
          "the most probable (id, log-probability), descending");

  nb::class_<Completion>(m, "Completion", "A finished answer.")
      .def_ro("tokens", &Completion::tokens, "the new ids; a stop token that ended it is the last of them")
      .def_ro("text", &Completion::text, "their text without the stop; None where the model has no tokenizer")
      .def_prop_ro(
          "finish_reason", [](const Completion& c) { return std::string(name(c.finish_reason)); },
          "\"stop\", \"length\" or \"cancelled\"")
      .def_ro("prompt_tokens", &Completion::prompt_tokens, "tokens of the prompt")
      .def_ro("cached_tokens", &Completion::cached_tokens, "of these, how many were in the cache already")
      .def_ro("logprobs", &Completion::logprobs, "one a token; empty where none were asked for")
      .def_ro("seed", &Completion::seed, "the request's, or the one that was chosen for it")
      .def("__str__", [](const Completion& c) { return c.text.value_or(""); })
      .def("__repr__", [](const Completion& c) {
        return fmt::format("Completion({} tokens, {})", c.tokens.size(), name(c.finish_reason));
      });

  nb::class_<GenerationEvent>(m, "GenerationEvent", "A new token, the end of an answer, or both.")
      .def_ro("token", &GenerationEvent::token, "its id; None where a cancellation ends the answer")
      .def_ro("text", &GenerationEvent::text, "whole characters; empty while they may begin a stop text")
      .def_ro("logprobs", &GenerationEvent::logprobs, "where they were asked for")
      .def_ro("completion", &GenerationEvent::completion, "on the last event")
      .def("__str__", [](const GenerationEvent& e) { return e.text; });

  nb::class_<Stream>(m, "Stream",
                     "An iterator over the events of one answer. Streams of one model that are open together are "
                     "computed together, and each gives what it would give alone.")
      .def(
          "__iter__", [](nb::handle self) { return nb::borrow(self); }, nb::sig("def __iter__(self) -> Stream"))
      .def("__next__",
           [](Stream& s) {
             std::optional<GenerationEvent> event;
             {
               const nb::gil_scoped_release released;
               event = s.next(check_signals);
             }
             if (!event) throw nb::stop_iteration();
             return *event;
           })
      .def(
          "result",
          [](Stream& s) {
            const nb::gil_scoped_release released;
            return s.result(check_signals);
          },
          "Runs to the end and returns the completion.");
}

}  // namespace lathe::python
