// lathe detokenize: ids to text, one list or a file of them.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/model_options.h"
#include "cli/request_options.h"
#include "cli/standard_streams.h"
#include "cli/tokenizer_options.h"
#include "config/model_config.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

// The ids that a model gives: all its rows, of which some may be no token. Of the tokenizer alone where there is no
// model beside it.
int64_t id_limit(const TokenizerOptions& source, const Tokenizer& tokenizer) {
  if (source.model.empty()) return tokenizer.vocab_size();
  try {
    return std::max(open_checkpoint(source.model, family_configs()).config->vocab_size, tokenizer.vocab_size());
  } catch (const Error&) {
    return tokenizer.vocab_size();
  }
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
    const int64_t limit = id_limit(o->source, *tokenizer);
    const auto decode = [&](const std::vector<int32_t>& ids) {
      for (size_t i = 0; i < ids.size(); ++i)
        check(ids[i] >= 0 && ids[i] < limit, "tokens", "id {} at position {} is outside the vocabulary [0, {})", ids[i],
              i, limit);
      if (!o->bytes) return tokenizer->decode(ids);
      std::string bytes;
      for (const int32_t id : ids) bytes += tokenizer->token_bytes(id);
      return bytes;
    };
    if (!o->source.batch.empty()) {
      for_each_line(o->source.batch,
                    [&](const OrderedJsonNode& line) { fmt::print("{}\n", dump_line(decode(token_ids(line)))); });
      return;
    }
    const std::string decoded = decode(parse_tokens(o->tokens));
    if (o->json) {
      fmt::print("{}\n", dump_line({{"text", decoded}}));
    } else {
      write_output(decoded);
      if (isatty(STDOUT_FILENO) != 0) write_output("\n");
    }
  });
}

}  // namespace lathe
