// The compiled part of lathe.Stream: answers as tuples, of which python/lathe/results.py makes its dataclasses.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "generate/request_options.h"
#include "python/src/arrays.h"
#include "python/src/bindings.h"
#include "python/src/model.h"

namespace lathe::python {
namespace {

// What Python calls the type of an option, and how an error does.
struct TypeNames {
  const char *annotation, *expected;
};
template <class T>
TypeNames type_names() {
  if constexpr (std::is_same_v<T, bool>) return {"bool", "True or False"};
  if constexpr (std::is_same_v<T, int64_t>) return {"int", "a whole number"};
  if constexpr (std::is_same_v<T, uint64_t>) return {"int", "a whole number from 0 to 2^64 - 1"};
  if constexpr (std::is_same_v<T, double>) return {"float", "a number"};
  if constexpr (std::is_same_v<T, std::string>) return {"dict[str, typing.Any] | str", "a dict, or a str of JSON"};
  return {"str | typing.Sequence[str]", "a str or a list of them"};
}

template <class Field>
struct ValueOf {
  using Type = Field;
};
template <class T>
struct ValueOf<std::optional<T>> {
  using Type = T;
};
template <class Field>
using Value = typename ValueOf<Field>::Type;

// Sets `field` to the option `key` where that is given.
template <class Field>
void read(const nb::dict& options, const char* key, Field& field) {
  using T = Value<Field>;
  const Callback calling;
  nb::object value = options.get(key, nb::none());
  if (value.is_none()) return;
  if (nb::isinstance(value, nb::module_::import_("numpy").attr("bool_"))) value = nb::bool_(value);
  T found;
  const bool truncated = std::is_integral_v<T> && !PyIndex_Check(value.ptr());
  if (nb::isinstance<nb::bool_>(value) != std::is_same_v<T, bool> || truncated || !nb::try_cast(value, found))
    throw nb::type_error(
        fmt::format("{}: expected {}, found {}", key, type_names<T>().expected, nb::cast<std::string>(nb::repr(value)))
            .c_str());
  field = found;
}

// JSON, as a text of it or as what json.dumps takes.
void read(const nb::dict& options, const char* key, std::optional<std::string>& json) {
  nb::object value = options.get(key, nb::none());
  if (value.is_none()) return;
  if (!nb::isinstance<nb::str>(value)) value = nb::module_::import_("json").attr("dumps")(value);
  json = to_utf8(nb::borrow<nb::str>(value));
}

void read(const nb::dict& options, const char* key, std::vector<std::string>& texts) {
  nb::object value = options.get(key, nb::none());
  if (value.is_none()) return;
  if (nb::isinstance<nb::str>(value)) value = nb::make_tuple(value);
  if (PySequence_Check(value.ptr()) == 0 || nb::isinstance<nb::bytes>(value))
    throw nb::type_error(fmt::format("{}: expected a str or a list of them, found a {}", key, kind_of(value)).c_str());
  for (const nb::handle text : value) {
    if (!nb::isinstance<nb::str>(text))
      throw nb::type_error(fmt::format("{}: expected a list of str, found a {} in it", key, kind_of(text)).c_str());
    texts.push_back(to_utf8(nb::borrow<nb::str>(text)));
  }
}

// `options` by the names of lathe.Options, without those that are about the prompt.
Request request_of(const Model& model, const nb::object& tokens, const nb::dict& options) {
  const Ids ids(tokens);
  RequestOptions chosen;
  RequestOptions::visit(chosen,
                        [&](auto& field, const OptionFacts& facts, auto...) { read(options, facts.name, field); });
  check(!chosen.greedy || chosen.temperature.value_or(0.0) == 0.0, "greedy", "it takes no temperature, found {}",
        chosen.temperature.value_or(0.0));
  return chosen.over(model.request({ids.view().begin(), ids.view().end()}));
}

// Of each option: its name, its type, what it means.
nb::list request_options() {
  nb::list list;
  const RequestOptions any;
  RequestOptions::visit(any, [&](const auto& field, const OptionFacts& facts, auto...) {
    using Field = std::decay_t<decltype(field)>;
    list.append(nb::make_tuple(facts.name, type_names<Value<Field>>().annotation, facts.description));
  });
  return list;
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
  m.def("_request_options", &request_options, nb::sig("def _request_options() -> list[tuple[str, str, str]]"));
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
