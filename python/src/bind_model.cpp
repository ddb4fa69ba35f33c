// lathe.Model and lathe.load.
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include <chrono>
#include <future>

#include "llm/trace.h"
#include "python/src/arrays.h"
#include "python/src/bindings.h"
#include "python/src/model.h"

namespace lathe::python {
namespace {

using Prompt = std::variant<std::string, TokenArray, std::vector<int32_t>, nb::list>;
using Number = std::optional<double>;
using Count = std::optional<int64_t>;

std::unique_ptr<Model> load(const std::filesystem::path& path, const std::string& dtype, const std::string& quantize,
                            bool trainable) {
  LoadOptions options;
  options.dtype = parse_compute_dtype(dtype);
  options.quantize = parse_quantize(quantize);
  options.trainable = trainable;
  LoadProgress progress;
  std::unique_ptr<Model> model;
  {
    const nb::gil_scoped_release released;
    auto loading =
        std::async(std::launch::async, [&] { return std::make_unique<Model>(path.string(), options, progress); });
    try {
      while (loading.wait_for(std::chrono::milliseconds(100)) != std::future_status::ready) check_signals();
    } catch (...) {  // Ctrl-C: the load ends at its next weight
      progress.interrupted = true;
      throw;
    }
    model = loading.get();
  }
  for (const std::string& warning : model->loaded().warnings)
    if (PyErr_WarnEx(PyExc_UserWarning, warning.c_str(), 1) != 0) throw nb::python_error();
  return model;
}

// Computes a tensor of the model without the interpreter and hands its memory to NumPy.
template <class F>
nb::object computed(Model& model, F&& f) {
  Tensor result;
  {
    const nb::gil_scoped_release released;
    result = model.exclusively(f);
  }
  return to_numpy(result);
}

template <class F>
nb::dict computed_by_name(Model& model, F&& f) {
  NamedTensors result;
  {
    const nb::gil_scoped_release released;
    result = model.exclusively(f);
  }
  return to_numpy(result);
}

void require_trainable(const Model& model, const char* what) {
  for (const NamedParameter& p : named_parameters(*model.loaded().model))
    if (p.parameter->packed)
      throw Error(fmt::format("{}: the weights are packed for inference", what), "load the model with trainable=True");
}

std::vector<int32_t> prompt_tokens(const Model& model, const Prompt& prompt) {
  if (const auto* text = std::get_if<std::string>(&prompt)) return model.encode(*text);
  if (const auto* messages = std::get_if<nb::list>(&prompt)) return model.encode_messages(to_json(*messages));
  if (const auto* list = std::get_if<std::vector<int32_t>>(&prompt)) return *list;
  const auto& array = std::get<TokenArray>(prompt);
  return {array.data(), array.data() + array.shape(0)};
}

std::unique_ptr<Stream> stream(Model& model, const Prompt& prompt, int64_t max_new_tokens, bool greedy,
                               Number temperature, Count top_k, Number top_p, Number min_p, Number repetition_penalty,
                               Number presence_penalty, Number frequency_penalty, std::optional<uint64_t> seed,
                               const std::vector<std::string>& stop, bool ignore_eos, Count logprobs) {
  Request r = model.request(prompt_tokens(model, prompt));
  r.max_new_tokens = max_new_tokens;
  const SamplingChoices chosen{.greedy = greedy,
                               .temperature = temperature,
                               .top_p = top_p,
                               .min_p = min_p,
                               .repetition_penalty = repetition_penalty,
                               .presence_penalty = presence_penalty,
                               .frequency_penalty = frequency_penalty,
                               .top_k = top_k,
                               .seed = seed};
  r.sampling = chosen.over(r.sampling);
  r.stop_strings = stop;
  r.ignore_eos = ignore_eos;
  r.logprobs = logprobs;
  const nb::gil_scoped_release released;
  return std::make_unique<Stream>(model, r);
}

// The same arguments as `start` takes, run to the end.
template <class... Arguments>
auto completing(std::unique_ptr<Stream> (*start)(Model&, Arguments...)) {
  return [start](Model& model, Arguments... arguments) {
    const std::unique_ptr<Stream> answer = start(model, arguments...);
    const nb::gil_scoped_release released;
    return answer->result(check_signals);
  };
}

const char* const kGenerateDoc =
    "Answers a conversation (a list of {\"role\", \"content\"}) or continues a text or ids.\n\n"
    "What is not given is the model's own default (generation_config.json); `greedy` takes the most probable token "
    "each time. `stop` are texts that end the answer, `logprobs` asks for that many alternatives a token. With a "
    "`seed` the answer is the same whatever else is computed beside it.";

const char* const kTraceDoc =
    "Every named activation of one forward pass whose name matches the shell pattern `filter`, as float32 arrays in "
    "the order of the computation: \"model.layers.3.self_attn.q_rope\" (docs/shapes.md lists the names). Attention's "
    "probabilities are among them.";

const char* const kGradientsDoc =
    "The mean next-token cross-entropy of `tokens` and its gradient with respect to every tensor of the checkpoint, "
    "by the checkpoint's own names and shapes: (loss, {name: array}). The model must be loaded with trainable=True.";

}  // namespace

void bind_model(nb::module_& m) {
  nb::class_<Model> c(m, "Model", "A language model. `lathe.load` makes one.");
  c.def_prop_ro(
      "config", [](const Model& self) -> const ModelConfig& { return self.loaded().model->config; },
      nb::rv_policy::reference_internal, "The model's description.");
  c.def_prop_ro(
      "tokenizer", [](const Model& self) { return std::const_pointer_cast<Tokenizer>(self.tokenizer()); },
      "The tokenizer that lies with the checkpoint; raises lathe.Error where there is none.");
  c.def_prop_ro(
      "path", [](const Model& self) { return self.loaded().checkpoint.path; }, "What was opened.");
  c.def_prop_ro(
      "weight_dtype", [](const Model& self) { return std::string(name(self.loaded().weight_dtype)); },
      "Of most of the stored weights: \"bf16\", \"q4_1\".");
  c.def_prop_ro(
      "parameter_count", [](const Model& self) { return count_parameters(*self.loaded().model); },
      "How many numbers the model is made of.");
  c.def_prop_ro(
      "parameters",
      [](const Model& self) {
        require_trainable(self, "parameters");
        NamedTensors all;
        for (const NamedParameter& p : named_parameters(*self.loaded().model))
          all.emplace_back(p.name, p.parameter->value);
        return to_numpy(all);
      },
      nb::sig("def parameters(self) -> dict[str, numpy.typing.NDArray[numpy.float32]]"),
      "The weights by the model's names, in the model's own memory: what is written there is used by the next forward. "
      "The model must be loaded with trainable=True.");
  c.def(
      "hidden",
      [](Model& self, const Tokens& tokens) {
        return computed(self, [&] { return hidden_states(*self.loaded().model, view(tokens)); });
      },
      nb::arg("tokens"),
      nb::sig("def hidden(self, tokens: numpy.typing.NDArray[numpy.int32] | typing.Sequence[int]) -> "
              "numpy.typing.NDArray[numpy.float32]"),
      "The hidden states after the final norm: (tokens, hidden_size).");
  c.def(
      "logits",
      [](Model& self, const Tokens& tokens) {
        const LoadedModel& loaded = self.loaded();
        return computed(self, [&] { return all_logits(*loaded.model, view(tokens), loaded.cache_dtype); });
      },
      nb::arg("tokens"),
      nb::sig("def logits(self, tokens: numpy.typing.NDArray[numpy.int32] | typing.Sequence[int]) -> "
              "numpy.typing.NDArray[numpy.float32]"),
      "The logits after each token, (tokens, vocab_size): the bits that generation sees.");
  c.def(
      "trace",
      [](Model& self, const Tokens& tokens, const std::string& filter) {
        return computed_by_name(self, [&] { return trace(*self.loaded().model, view(tokens), filter); });
      },
      nb::arg("tokens"), nb::arg("filter") = "*",
      nb::sig("def trace(self, tokens: numpy.typing.NDArray[numpy.int32] | typing.Sequence[int], filter: str = '*') "
              "-> dict[str, numpy.typing.NDArray[numpy.float32]]"),
      kTraceDoc);
  c.def(
      "gradients",
      [](Model& self, const Tokens& tokens) {
        require_trainable(self, "gradients");
        nb::dict all = computed_by_name(self, [&] {
          NamedTensors result = loss_and_gradients(self.loaded(), view(tokens));
          for (auto& [name, tensor] : result)
            if (name.starts_with("grad.")) name.erase(0, 5);
          return result;
        });
        const auto loss = nb::cast<double>(all["loss"].attr("item")());
        nb::del(all["loss"]);
        return nb::make_tuple(loss, all);
      },
      nb::arg("tokens"),
      nb::sig("def gradients(self, tokens: numpy.typing.NDArray[numpy.int32] | typing.Sequence[int]) -> "
              "tuple[float, dict[str, numpy.typing.NDArray[numpy.float32]]]"),
      kGradientsDoc);
  const auto add_generation = [&](const char* method, auto&& function, const auto&... extra) {
    c.def(method, function, nb::arg("prompt"), nb::kw_only(), nb::arg("max_new_tokens") = 128,
          nb::arg("greedy") = false, nb::arg("temperature") = nb::none(), nb::arg("top_k") = nb::none(),
          nb::arg("top_p") = nb::none(), nb::arg("min_p") = nb::none(), nb::arg("repetition_penalty") = nb::none(),
          nb::arg("presence_penalty") = nb::none(), nb::arg("frequency_penalty") = nb::none(),
          nb::arg("seed") = nb::none(), nb::arg("stop") = std::vector<std::string>(), nb::arg("ignore_eos") = false,
          nb::arg("logprobs") = nb::none(), extra...);
  };
  add_generation("generate", completing(&stream), kGenerateDoc);
  add_generation("stream", &stream, nb::keep_alive<0, 1>(),
                 "The same as an iterator over its events, as they come. Takes what `generate` takes.");
  c.def("__repr__", [](const Model& self) {
    return fmt::format("Model({}, {} parameters)", self.loaded().checkpoint.path,
                       count_parameters(*self.loaded().model));
  });
  m.def(
      "load", &load, nb::arg("path"), nb::arg("dtype") = "auto", nb::kw_only(), nb::arg("quantize") = "",
      nb::arg("trainable") = false,
      "Loads a model: a Hugging Face folder, a .safetensors, .bin or .gguf file, or the name of a model that is "
      "there.\n\n"
      "`dtype` is the arithmetic: \"auto\", \"float32\", \"bfloat16\". `quantize` (\"q8_0\", \"q4_k\", ...) makes the "
      "matrices smaller on load. `trainable` keeps the weights in float32 for `gradients` and `parameters`.");
}

}  // namespace lathe::python
