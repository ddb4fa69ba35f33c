// lathe tokenize: text to ids, one text or a file of them, and how they came about.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/model_options.h"
#include "cli/show_explanation.h"
#include "cli/tokenizer_options.h"
#include "tensor/errors.h"
#include "text/tokenizer/explanation.h"

namespace lathe {
namespace {

EncodeOptions::ParseSpecial parse_special(const std::string& text) {
  if (text == "auto") return EncodeOptions::ParseSpecial::automatic;
  if (text == "yes") return EncodeOptions::ParseSpecial::yes;
  if (text == "no") return EncodeOptions::ParseSpecial::no;
  throw UsageError(fmt::format("--parse-special: expected auto, yes or no, found \"{}\"", text));
}

struct TokenizeOptions {
  TokenizerOptions source;
  std::string text, text_file, parse_special = "auto";
  bool no_special_tokens = false, json = false, explain = false;
};

void run_tokenize(const TokenizeOptions& o, bool text_given) {
  EncodeOptions options;
  options.add_special_tokens = !o.no_special_tokens;
  options.parse_special = parse_special(o.parse_special);
  const auto tokenizer = o.source.load();
  if (!o.source.batch.empty()) {
    for_each_line(o.source.batch, [&](const OrderedJsonNode& line) {
      fmt::print("{}\n", dump_line(tokenizer->encode(line.string(), options)));
    });
    return;
  }
  const std::string input = text_given ? o.text : read_text(o.text_file.empty() ? "-" : o.text_file);
  if (o.explain) {
    const Explanation explanation = tokenizer->explain(input, options);
    if (o.json)
      fmt::print("{}\n", dump_line(explanation_json(*tokenizer, explanation)));
    else
      fmt::print("{}", explanation_text(*tokenizer, explanation));
    return;
  }
  const std::vector<int32_t> ids = tokenizer->encode(input, options);
  if (o.json)
    fmt::print("{}\n", dump_line({{"tokens", ids}}));
  else
    fmt::print("{}\n", fmt::join(ids, ","));
}

}  // namespace

void add_tokenize(CommandLine& app) {
  const auto o = std::make_shared<TokenizeOptions>();
  const Command command = app.add("tokenize", "text to ids");
  o->source.declare(command);
  const Option text = command.option("--text", o->text, "the text; without any, standard input is read");
  const Option file = command.option(
      "--text-file", o->text_file, "a file with the text; bytes that are not UTF-8 are an error that names the first");
  const Option batch = command.option("--batch", o->source.batch, "JSON strings in, one JSON array of ids out a line");
  text.excludes(file).excludes(batch);
  file.excludes(batch);
  command.flag("--no-special-tokens", o->no_special_tokens, "add no BOS, EOS and the like");
  command
      .option("--parse-special", o->parse_special,
              "auto, yes or no: whether the text of a special token is read as that token (auto: as the reference "
              "library of the file's kind does)")
      .shows_default();
  command
      .flag("--explain", o->explain,
            "step by step: the normalised text, the pieces it is cut into, what merges in which order, the ids and "
            "their bytes")
      .excludes(batch);
  command.flag("--json", o->json, "one JSON object");
  command.example(
      "Examples: lathe tokenize --model models/SmolLM2-135M --text 'Hello, world'\n"
      "          lathe tokenize --tokenizer original/tokenizer.model --pattern llama3 --text Hello --explain");
  command.run([o, text] { run_tokenize(*o, text.given()); });
}

}  // namespace lathe
