// lathe perplexity: the perplexity of a text under a stated protocol, and how far a model is from another.
#include "evaluate/perplexity.h"

#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/figures.h"
#include "cli/json_file.h"
#include "cli/model_options.h"
#include "cli/profile_report.h"
#include "cli/progress.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kDefaultWindow = 512;

struct CommandOptions {
  ModelOptions model;
  std::string text_file, protocol = "transformers", compare_with, compare_dtype;
  int64_t stride = 0, limit = 0;
  bool json = false;
};

PerplexityOptions protocol_options(const CommandOptions& o, const ModelSizes& config) {
  PerplexityOptions p;
  const int64_t limit = o.model.context_limit(config);
  p.context = o.model.context > 0 ? o.model.context : std::min(kDefaultWindow, limit);
  p.stride = o.stride > 0 ? o.stride : p.context;
  p.limit = o.limit;
  if (o.protocol == "llama.cpp") p.protocol = PerplexityProtocol::llama_cpp;
  return p;
}

std::vector<int32_t> encode(const Tokenizer& tokenizer, const std::string& text, const std::string& path) {
  try {
    return tokenizer.encode(text);
  } catch (const Error& e) {
    throw Error(fmt::format("{}: {}", path, e.what()), e.hint());
  }
}

// The reference decides what a token is, so both must spell every id alike.
void check_same_vocabulary(const Tokenizer& tokenizer, const Tokenizer& reference, const std::string& name) {
  check(tokenizer.vocab_size() == reference.vocab_size(), "--compare-with",
        "{} has {} tokens, the model has {}: the vocabularies must be equal", name, reference.vocab_size(),
        tokenizer.vocab_size());
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id)
    check(tokenizer.token_text(id) == reference.token_text(id), "--compare-with",
          "token {} is \"{}\" in {}, \"{}\" in the model: the vocabularies must be equal", id, reference.token_text(id),
          name, tokenizer.token_text(id));
}

struct Reference {
  LoadedModel loaded;
  DType cache_dtype;
};

std::optional<Reference> load_reference(const CommandOptions& o, const Tokenizer& tokenizer, int64_t window) {
  if (o.compare_with.empty()) return std::nullopt;
  ModelOptions options = o.model;
  options.model = o.compare_with;
  options.quantize.clear();
  if (!o.compare_dtype.empty()) options.dtype = o.compare_dtype;
  LoadedModel loaded = options.load();
  check_same_vocabulary(tokenizer, *load_tokenizer(loaded.checkpoint), o.compare_with);
  options.context = window;
  options.context_limit(loaded.model->sizes);  // warns or throws where the window is longer
  const DType cache_dtype = options.cache_dtype(loaded);
  return Reference{std::move(loaded), cache_dtype};
}

// The figures so far on standard error; false after Ctrl-C.
PerplexityProgress show_on(Progress& progress, int64_t limit) {
  return [&progress, limit](const PerplexityReport& r) {
    progress.show(fmt::format("window {} of {}: perplexity {:.4f} +/- {:.4f}", r.windows,
                              limit > 0 ? std::min(limit, r.windows_in_text) : r.windows_in_text, r.perplexity.value,
                              r.perplexity.standard_error));
    return !Progress::interrupted();
  };
}

void run_perplexity(const CommandOptions& o) {
  const std::string text = read_text(o.text_file);
  const LoadedModel loaded = o.model.load();
  const auto tokenizer = load_tokenizer(loaded.checkpoint);
  PerplexityOptions protocol = protocol_options(o, loaded.model->sizes);
  const std::vector<int32_t> ids = encode(*tokenizer, text, o.text_file);
  const bool adds_bos = !ids.empty() && tokenizer->bos() == ids.front();
  if (protocol.protocol == PerplexityProtocol::llama_cpp && adds_bos) protocol.bos = ids.front();
  text_windows(std::ssize(ids), protocol);  // a text that is too short is known before a second model is read
  const std::optional<Reference> other = load_reference(o, *tokenizer, protocol.context);

  std::optional<ScoredModel> reference;
  if (other) reference = {other->loaded.model.get(), other->cache_dtype};
  PerplexityReport report;
  ProfileReport profile(o.model);
  {
    Progress progress;
    report = measure_perplexity({loaded.model.get(), o.model.cache_dtype(loaded)}, reference, ids, protocol,
                                show_on(progress, o.limit));
  }
  Json figures = {{"protocol", o.protocol},
                  {"context", protocol.context},
                  {"stride", protocol.stride},
                  {"bos", !adds_bos      ? "none"
                          : protocol.bos ? "first token of each window"
                                         : "first token of the text"},
                  {"tokenizer", tokenizer->kind()},
                  {"dtype", o.model.dtype},
                  {"tokens_in_text", ids.size()}};
  figures.update(figures_of(report));
  if (report.comparison) figures["compare_with"]["model"] = o.compare_with;
  if (o.json)
    fmt::print("{}\n", dump_line(figures));
  else
    print_figures(figures);
  std::fflush(stdout);
  profile.finish();
  if (report.interrupted) throw Error("interrupted");
}

}  // namespace

void add_perplexity(CommandLine& app) {
  const auto o = std::make_shared<CommandOptions>();
  const Command command = app.add("perplexity", "how well a model predicts a text; how far it is from another");
  o->model.declare(command);
  command.find("--context").description("tokens of a window; default: 512, or the model's limit if that is less");
  command.option("--text-file", o->text_file, "the text, UTF-8; - is standard input").required();
  command.option("--protocol", o->protocol, "transformers or llama.cpp: which tokens are counted")
      .shows_default()
      .one_of({"transformers", "llama.cpp"});
  command.option("--stride", o->stride, "tokens from one window to the next; default: the window").positive();
  command.option("--limit", o->limit, "only the first N windows").positive();
  command.option("--compare-with", o->compare_with, "also the divergence of the model from this one");
  command.option("--compare-dtype", o->compare_dtype, "--dtype of that one; default: the same");
  command.flag("--json", o->json, "one JSON object");
  command.example(
      "Example: lathe perplexity --model models/SmolLM2-135M-Instruct.Q4_1.gguf --text-file wiki.test.raw --limit 32");
  command.run([o] { run_perplexity(*o); });
}

}  // namespace lathe
