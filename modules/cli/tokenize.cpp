// lathe tokenize and lathe detokenize: text to ids and back, one text or a file of them.
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/commands.h"
#include "cli/model_options.h"

namespace lathe {
namespace {

using Json = nlohmann::json;

struct TokenizerOptions {
  std::string model, tokenizer, batch;

  void declare(CLI::App& command) {
    auto* by_model = command.add_option("--model", model, "folder, file, or name of a model");
    auto* by_file = command.add_option("--tokenizer", tokenizer, "tokenizer.json, tokenizer.model or .gguf");
    by_model->excludes(by_file);
  }
  std::shared_ptr<const Tokenizer> load() const {
    if (!tokenizer.empty()) return load_tokenizer_file(tokenizer);
    if (model.empty()) throw UsageError("expected --model or --tokenizer, found neither");
    return load_tokenizer_of(model);
  }
};

EncodeOptions::ParseSpecial parse_special(const std::string& text) {
  if (text == "auto") return EncodeOptions::ParseSpecial::automatic;
  if (text == "yes") return EncodeOptions::ParseSpecial::yes;
  if (text == "no") return EncodeOptions::ParseSpecial::no;
  throw UsageError(fmt::format("--parse-special: expected auto, yes or no, found \"{}\"", text));
}

// Calls f with every line of a JSON Lines file, parsed; names file and line when one is no JSON.
template <class F>
void for_each_line(const std::string& path, F&& f) {
  std::istringstream lines(read_text(path));
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    if (line.empty()) continue;
    try {
      f(Json::parse(line));
    } catch (const Json::exception& e) {
      throw Error(fmt::format("{}: line {}: {}", path, number, e.what()));
    }
  }
}

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

void write_bytes(const std::string& bytes) {
  check(std::fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size(), "standard output", "cannot be written");
}

}  // namespace

void add_tokenize(CLI::App& app) {
  struct Options {
    TokenizerOptions source;
    std::string text, text_file, parse_special = "auto";
    bool no_special_tokens = false, json = false;
  };
  const auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("tokenize", "text to ids");
  o->source.declare(*command);
  auto* text = command->add_option("--text", o->text, "the text; without any, standard input is read");
  auto* file = command->add_option("--text-file", o->text_file, "a file with the text");
  auto* batch = command->add_option("--batch", o->source.batch, "JSON strings in, one JSON array of ids out a line");
  text->excludes(file)->excludes(batch);
  file->excludes(batch);
  command->add_flag("--no-special-tokens", o->no_special_tokens, "add no BOS, EOS and the like");
  command
      ->add_option("--parse-special", o->parse_special,
                   "auto, yes or no: whether the text of a special token is read as that token")
      ->capture_default_str();
  command->add_flag("--json", o->json, "one JSON object");
  command->footer("Example: lathe tokenize --model models/SmolLM2-135M --text 'Hello, world'");
  command->callback([o, text] {
    EncodeOptions options;
    options.add_special_tokens = !o->no_special_tokens;
    options.parse_special = parse_special(o->parse_special);
    const auto tokenizer = o->source.load();
    if (!o->source.batch.empty()) {
      for_each_line(o->source.batch, [&](const Json& line) {
        fmt::print("{}\n", dump(tokenizer->encode(line.get_ref<const std::string&>(), options)));
      });
      return;
    }
    const std::string input = text->count() > 0 ? o->text : read_text(o->text_file.empty() ? "-" : o->text_file);
    const std::vector<int32_t> ids = tokenizer->encode(input, options);
    if (o->json)
      fmt::print("{}\n", dump({{"tokens", ids}}));
    else
      fmt::print("{}\n", fmt::join(ids, ","));
  });
}

void add_detokenize(CLI::App& app) {
  struct Options {
    TokenizerOptions source;
    std::string tokens;
    bool bytes = false, json = false;
  };
  const auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("detokenize", "ids to text");
  o->source.declare(*command);
  auto* tokens = command->add_option("--tokens", o->tokens, "ids separated by commas");
  auto* batch = command->add_option("--batch", o->source.batch, "JSON arrays in, one JSON string out a line");
  tokens->excludes(batch);
  command->add_flag("--bytes", o->bytes, "the raw bytes of the tokens");
  command->add_flag("--json", o->json, "one JSON object");
  command->footer("Example: lathe detokenize --model models/SmolLM2-135M --tokens 19556,28,905");
  command->callback([o, tokens] {
    if (tokens->count() == 0 && o->source.batch.empty())
      throw UsageError("expected --tokens or --batch, found neither");
    const auto tokenizer = o->source.load();
    const auto decode = [&](const std::vector<int32_t>& ids) {
      for (size_t i = 0; i < ids.size(); ++i)
        check(ids[i] >= 0 && ids[i] < tokenizer->vocab_size(), "tokens",
              "id {} at position {} is outside the vocabulary [0, {})", ids[i], i, tokenizer->vocab_size());
      if (!o->bytes) return tokenizer->decode(ids);
      std::string bytes;
      for (const int32_t id : ids) bytes += tokenizer->token_bytes(id);
      return bytes;
    };
    if (!o->source.batch.empty()) {
      for_each_line(o->source.batch,
                    [&](const Json& line) { fmt::print("{}\n", dump(decode(line.get<std::vector<int32_t>>()))); });
      return;
    }
    const std::string decoded = decode(parse_tokens(o->tokens));
    if (o->json) {
      fmt::print("{}\n", dump({{"text", decoded}}));
    } else {
      write_bytes(decoded);
      if (isatty(STDOUT_FILENO) != 0) write_bytes("\n");
    }
  });
}

}  // namespace lathe
