// lathe's Model as far as it is compiled; python/lathe/model.py adds prompts and answers.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <future>

#include "config/model_config.h"
#include "llm/trace.h"
#include "python/src/arrays.h"
#include "python/src/bindings.h"
#include "python/src/model.h"

namespace lathe::python {
namespace {

// Ends a load at its next weight; what it has made by then goes away.
void give_up(std::future<void>& loading, LoadProgress& progress, Model* model) {
  progress.interrupted = true;
  try {
    loading.get();
  } catch (...) {
    return;  // there is no model
  }
  model->~Model();
}

void report(const nb::object& callback, size_t read, size_t total) {
  if (!callback.is_none()) callback(read, total);
}

// Loads on a thread of its own into the memory of `model`; this one hears Ctrl-C and tells how far it is.
void load_into(Model* model, const std::string& path, const ModelSettings& settings, const nb::object& callback) {
  LoadProgress progress;
  {
    const Released released;
    auto loading = std::async(std::launch::async, [&] {
      const Computing computing;
      new (model) Model(path, settings, progress);
    });
    try {
      while (loading.wait_for(std::chrono::milliseconds(100)) != std::future_status::ready) {
        check_signals();
        if (callback.is_none() || progress.bytes_total == 0) continue;
        const Callback calling;
        const nb::gil_scoped_acquire acquired;
        report(callback, progress.bytes_read, progress.bytes_total);
      }
    } catch (...) {
      give_up(loading, progress, model);
      throw;
    }
    loading.get();
  }
  const Callback calling;
  try {
    report(callback, progress.bytes_total, progress.bytes_total);
    for (const std::string& warning : model->loaded().warnings)
      if (PyErr_WarnEx(PyExc_UserWarning, warning.c_str(), 2) != 0) throw nb::python_error();
  } catch (...) {
    model->~Model();
    throw;
  }
}

void construct_model(Model* model, const nb::object& path, const std::string& dtype,
                     const std::optional<std::string>& quantize, bool trainable, const nb::object& adapter,
                     int64_t context, const std::optional<std::string>& kv_cache_dtype, int64_t kv_memory,
                     const nb::object& speculate, const nb::object& progress) {
  ModelSettings settings;
  settings.load.dtype = parse_compute_dtype(dtype);
  settings.load.quantize = parse_quantize(quantize.value_or(""));
  settings.load.trainable = trainable;
  if (!adapter.is_none()) settings.load.adapter = to_path(adapter);
  if (kv_cache_dtype) settings.cache_dtype = parse_cache_dtype(*kv_cache_dtype);
  check(kv_memory >= 0, "kv_memory", "expected a number of bytes, found {}", kv_memory);
  settings.kv_memory = static_cast<size_t>(kv_memory);
  settings.context = context;
  if (!speculate.is_none()) {
    settings.speculate = to_path(speculate);
    check(!settings.speculate.empty(), "speculate", "expected \"ngram\" or a model, found an empty text");
  }
  load_into(model, to_path(path), settings, progress);
}

// A method that computes over tokens without the interpreter; its result's memory is NumPy's.
auto over_ids(Tensor (Model::*compute)(std::span<const int32_t>, const Poll&)) {
  return [compute](Model& model, const nb::object& tokens) {
    const Ids ids(tokens);
    return to_numpy(without_interpreter([&] { return (model.*compute)(ids.view(), check_signals); }));
  };
}

nb::object log_probabilities(Model& model, const nb::list& sequences) {
  const IdLists ids(sequences);
  return to_numpy(without_interpreter([&] { return model.log_probabilities(ids.views(), check_signals); }));
}

nb::dict trace(Model& model, const nb::object& tokens, const nb::str& filter, const nb::kwargs& unknown) {
  refuse_unknown("trace", unknown, {"tokens", "filter"});
  const Ids ids(tokens);
  const std::string pattern = to_utf8(filter);
  return to_numpy(without_interpreter([&] { return model.trace(ids.view(), pattern, check_signals); }));
}

nb::tuple gradients(Model& model, const nb::object& tokens) {
  const Ids ids(tokens);
  NamedTensors all = without_interpreter([&] { return model.gradients(ids.view(), check_signals); });
  nb::dict by_name;
  for (const auto& [name, tensor] : all)
    if (name.starts_with("grad.")) by_name[name.substr(5).c_str()] = to_numpy(tensor);
  return nb::make_tuple(nb::cast<double>(to_numpy(all.front().second).attr("item")()), by_name);
}

std::vector<std::string> save(Model& model, const nb::object& path, const std::string& dtype,
                              const std::optional<std::string>& quantize) {
  const std::string output = to_path(path);
  check(!output.empty(), "save", "expected a folder, a .safetensors or a .gguf file, found an empty path");
  ExportOptions options;
  options.quantize = parse_quantize(quantize.value_or(""));
  options.dtype = parse_stored_dtype(dtype);
  return without_interpreter([&] { return model.save(output, options, check_signals); });
}

const char* const kTraceDoc =
    "Every named activation of one forward pass whose name matches the shell pattern `filter`, as float32 arrays in "
    "the order of the computation: \"model.layers.3.self_attn.q_rope\" (docs/shapes.md lists the names). Attention's "
    "probabilities are among them.";

const char* const kGradientsDoc =
    "The mean next-token cross-entropy of `tokens` and its gradient with respect to every tensor of the checkpoint, "
    "by the checkpoint's own names and shapes: (loss, {name: array}). The model must be loaded with trainable=True.";

const char* const kParametersDoc =
    "The weights by the model's names, in the model's own memory: what is written into an array, "
    "`parameters[name][...] = values`, is used by the next forward. "
    "From the first look on, no answer uses what an earlier one left in the prefix cache; answers that are under way "
    "keep what they have computed. The model must be loaded with trainable=True.";

#define LATHE_ARRAY "numpy.typing.NDArray[numpy.float32]"
#define LATHE_ARRAYS "dict[str, " LATHE_ARRAY "]"

void bind_facts(nb::class_<Model>& c) {
  c.def_prop_ro(
      "config", [](const Model& self) -> const ModelConfig& { return self.loaded().model->config; },
      nb::rv_policy::reference_internal, "The model's description.");
  c.def_prop_ro(
      "tokenizer", [](const Model& self) { return std::const_pointer_cast<Tokenizer>(self.tokenizer()); },
      "The tokenizer that lies with the checkpoint; raises lathe.Error where there is none.");
  c.def_prop_ro(
      "path", [](const Model& self) { return self.loaded().checkpoint.path; }, "What was opened.");
  c.def_prop_ro("context", &Model::context, "Tokens that a sequence may have, prompt and answer together.");
  c.def_prop_ro(
      "weight_dtype", [](const Model& self) { return std::string(name(self.loaded().weight_dtype)); },
      "Of most of the stored weights: \"bf16\", \"q4_1\".");
  c.def_prop_ro(
      "parameter_count", [](const Model& self) { return count_parameters(*self.loaded().model); },
      "How many numbers the model is made of.");
  c.def_prop_ro(
      "parameters",
      [](Model& self) {
        return nb::module_::import_("lathe.parameters").attr("Parameters")(to_numpy(self.parameters()));
      },
      nb::sig("def parameters(self) -> typing.MutableMapping[str, " LATHE_ARRAY "]"), kParametersDoc);
  c.def("__repr__", [](const Model& self) {
    return fmt::format("Model({}, {} parameters)", self.loaded().checkpoint.path,
                       count_parameters(*self.loaded().model));
  });
}

}  // namespace

void bind_model(nb::module_& m) {
  nb::class_<Model> c(m, "Model", "The compiled part of lathe.Model.", nb::is_weak_referenceable());
  c.def("__init__", &construct_model, nb::arg("path"), nb::arg("dtype") = "auto", nb::kw_only(),
        nb::arg("quantize") = nb::none(), nb::arg("trainable") = false, nb::arg("adapter") = nb::none(),
        nb::arg("context") = 0, nb::arg("kv_cache_dtype") = nb::none(), nb::arg("kv_memory") = 0,
        nb::arg("speculate") = nb::none(), nb::arg("progress") = nb::none(),
        nb::sig("def __init__(self, path: str | os.PathLike, dtype: str = 'auto', *, quantize: str | None = None, "
                "trainable: bool = False, adapter: str | os.PathLike | None = None, context: int = 0, kv_cache_dtype: "
                "str | None = None, kv_memory: int = 0, "
                "speculate: str | os.PathLike | None = None, progress: typing.Callable[[int, int], object] | None = "
                "None) -> None"),
        "What `lathe.load` calls.");
  bind_facts(c);
  c.def("hidden", over_ids(&Model::hidden), nb::arg("tokens"),
        nb::sig("def hidden(self, tokens: " LATHE_IDS ") -> " LATHE_ARRAY),
        "The hidden states after the final norm: (tokens, hidden_size).");
  c.def("logits", over_ids(&Model::logits), nb::arg("tokens"),
        nb::sig("def logits(self, tokens: " LATHE_IDS ") -> " LATHE_ARRAY),
        "The logits after each token, (tokens, vocab_size): the bits that generation sees.");
  c.def("trace", &trace, nb::arg("tokens"), nb::arg("filter") = "*", nb::arg("unknown"),
        nb::sig("def trace(self, tokens: " LATHE_IDS ", filter: str = '*') -> " LATHE_ARRAYS), kTraceDoc);
  c.def("gradients", &gradients, nb::arg("tokens"),
        nb::sig("def gradients(self, tokens: " LATHE_IDS ") -> tuple[float, " LATHE_ARRAYS "]"), kGradientsDoc);
  c.def("_log_probabilities", &log_probabilities, nb::arg("sequences"),
        nb::sig("def _log_probabilities(self, sequences: list[" LATHE_IDS "]) -> " LATHE_ARRAY));
  c.def("_save", &save, nb::arg("path"), nb::arg("dtype"), nb::arg("quantize"),
        nb::sig("def _save(self, path: str | os.PathLike, dtype: str, quantize: str | None) -> list[str]"));
}

}  // namespace lathe::python
