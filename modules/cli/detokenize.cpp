// lathe detokenize: ids to text, one list or a file of them.
#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/model_options.h"
#include "cli/tokenizer_options.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

void write_bytes(const std::string& bytes) {
  check(std::fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size(), "standard output", "cannot be written");
}

}  // namespace

void add_detokenize(CommandLine& app) {
  struct Options {
    TokenizerOptions source;
    std::string tokens;
    bool bytes = false, json = false;
  };
  const auto o = std::make_shared<Options>();
  const Command command = app.add("detokenize", "ids to text");
  o->source.declare(command);
  const Option tokens = command.option("--tokens", o->tokens, "ids separated by commas");
  const Option batch = command.option("--batch", o->source.batch, "JSON arrays in, one JSON string out a line");
  tokens.excludes(batch);
  command.flag("--bytes", o->bytes,
               "the raw bytes of the tokens, also where they are no UTF-8; without it such bytes show as U+FFFD, "
               "and so they do in JSON");
  command.flag("--json", o->json, "one JSON object");
  command.example("Example: lathe detokenize --model models/SmolLM2-135M --tokens 19556,28,905");
  command.run([o, tokens] {
    if (!tokens.given() && o->source.batch.empty()) throw UsageError("expected --tokens or --batch, found neither");
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
      for_each_line(o->source.batch, [&](const nlohmann::json& line) {
        fmt::print("{}\n", dump_line(decode(line.get<std::vector<int32_t>>())));
      });
      return;
    }
    const std::string decoded = decode(parse_tokens(o->tokens));
    if (o->json) {
      fmt::print("{}\n", dump_line({{"text", decoded}}));
    } else {
      write_bytes(decoded);
      if (isatty(STDOUT_FILENO) != 0) write_bytes("\n");
    }
  });
}

}  // namespace lathe
