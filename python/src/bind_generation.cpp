// The compiled part of lathe.Stream: answers as tuples, of which python/lathe/results.py makes its dataclasses.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "python/src/arrays.h"
#include "python/src/bindings.h"
#include "python/src/model.h"

namespace lathe::python {
namespace {

template <class T>
constexpr const char* kExpected = "a number";
template <>
constexpr const char* kExpected<bool> = "True or False";
template <>
constexpr const char* kExpected<int64_t> = "a whole number";
template <>
constexpr const char* kExpected<uint64_t> = "a whole number from 0 to 2^64 - 1";

// Sets `field` to the option `key` where that is given.
template <class T, class Field>
void read(const nb::dict& options, const char* key, Field& field) {
  const Callback calling;
  nb::object value = options.get(key, nb::none());
  if (value.is_none()) return;
  if (nb::isinstance(value, nb::module_::import_("numpy").attr("bool_"))) value = nb::bool_(value);
  T found;
  const bool truncated = std::is_integral_v<T> && !PyIndex_Check(value.ptr());
  if (nb::isinstance<nb::bool_>(value) != std::is_same_v<T, bool> || truncated || !nb::try_cast(value, found))
    throw nb::type_error(
        fmt::format("{}: expected {}, found {}", key, kExpected<T>, nb::cast<std::string>(nb::repr(value))).c_str());
  field = found;
}

std::vector<std::string> stop_strings(const nb::dict& options) {
  nb::object stop = options.get("stop", nb::none());
  std::vector<std::string> texts;
  if (stop.is_none()) return texts;
  if (nb::isinstance<nb::str>(stop)) stop = nb::make_tuple(stop);
  if (PySequence_Check(stop.ptr()) == 0 || nb::isinstance<nb::bytes>(stop))
    throw nb::type_error(fmt::format("stop: expected a str or a list of them, found a {}", kind_of(stop)).c_str());
  for (const nb::handle text : stop) {
    if (!nb::isinstance<nb::str>(text))
      throw nb::type_error(fmt::format("stop: expected a list of str, found a {} in it", kind_of(text)).c_str());
    texts.push_back(to_utf8(nb::borrow<nb::str>(text)));
  }
  return texts;
}

// `options` by the names of lathe.Options, without those that are about the prompt.
Request request_of(const Model& model, const nb::object& tokens, const nb::dict& options) {
  const Ids ids(tokens);
  Request r = model.request({ids.view().begin(), ids.view().end()});
  SamplingChoices chosen;
  read<bool>(options, "greedy", chosen.greedy);
  read<double>(options, "temperature", chosen.temperature);
  read<double>(options, "top_p", chosen.top_p);
  read<double>(options, "min_p", chosen.min_p);
  read<double>(options, "repetition_penalty", chosen.repetition_penalty);
  read<double>(options, "presence_penalty", chosen.presence_penalty);
  read<double>(options, "frequency_penalty", chosen.frequency_penalty);
  read<int64_t>(options, "top_k", chosen.top_k);
  read<uint64_t>(options, "seed", chosen.seed);
  check(!chosen.greedy || chosen.temperature.value_or(0.0) == 0.0, "greedy", "it takes no temperature, found {}",
        chosen.temperature.value_or(0.0));
  r.sampling = chosen.over(r.sampling);
  read<int64_t>(options, "max_new_tokens", r.max_new_tokens);
  read<int64_t>(options, "logprobs", r.logprobs);
  read<bool>(options, "ignore_eos", r.ignore_eos);
  r.stop_strings = stop_strings(options);
  return r;
}

void construct_stream(Stream* stream, const std::shared_ptr<Model>& model, const nb::object& tokens,
                      const nb::dict& options) {
  const Request request = request_of(*model, tokens, options);
  without_interpreter([&] { new (stream) Stream(model, request, check_signals); });
}

nb::object to_tuple(const TokenLogprobs& l) {
  std::vector<std::pair<int32_t, float>> top;
  for (const TokenLogprob& t : l.top) top.emplace_back(t.token, t.logprob);
  return nb::make_tuple(l.chosen.token, l.chosen.logprob, top);
}

nb::object to_tuple(const Completion& c) {
  nb::list logprobs;
  for (const TokenLogprobs& step : c.logprobs) logprobs.append(to_tuple(step));
  return nb::make_tuple(c.tokens, c.text, std::string(name(c.finish_reason)), c.prompt_tokens, c.cached_tokens,
                        logprobs, c.seed);
}

nb::object next_event(Stream& s) {
  const std::optional<GenerationEvent> event = without_interpreter([&] { return s.next(check_signals); });
  if (!event) throw nb::stop_iteration();
  return nb::make_tuple(event->token, event->text, event->logprobs ? to_tuple(*event->logprobs) : nb::none(),
                        event->completion ? to_tuple(*event->completion) : nb::none());
}

}  // namespace

void bind_generation(nb::module_& m) {
  nb::class_<Stream> c(m, "Stream", "The compiled part of lathe.Stream.");
  c.def("__init__", &construct_stream, nb::arg("model"), nb::arg("tokens"), nb::arg("options"),
        nb::sig("def __init__(self, model: Model, tokens: " LATHE_IDS ", options: dict[str, typing.Any]) -> None"));
  c.def("_next", &next_event, nb::sig("def _next(self) -> tuple"), "The fields of a GenerationEvent.");
  c.def(
      "_result", [](Stream& s) { return to_tuple(without_interpreter([&] { return s.result(check_signals); })); },
      nb::sig("def _result(self) -> tuple"), "The fields of a Completion.");
  c.def(
      "close", [](Stream& s) { without_interpreter([&] { s.close(check_signals); }); },
      "Ends the answer where it is: no further events, and a completion that says \"cancelled\".");
}

}  // namespace lathe::python
