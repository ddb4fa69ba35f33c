// libFuzzer target: any text as a JSON Schema. It becomes a grammar in which no beginning of a text is a dead end, or
// is refused with lathe::Error.
#include "tensor/errors.h"
#include "text/grammar/grammar_matcher.h"
#include "text/grammar/json_schema.h"

namespace {

// A text that begins as the grammar's may, byte by byte, the first that fits behind the last one taken.
void write_some(lathe::GrammarMatcher& matcher) {
  auto state = matcher.begin();
  for (uint32_t length = 0; length < 64 && !matcher.must_end(state); ++length) {
    bool goes_on = false;
    for (uint32_t i = 0; i < 256 && !goes_on; ++i) {
      const char byte = static_cast<char>('"' + 37 * length + i);
      const auto next = matcher.after(state, std::string_view(&byte, 1));
      goes_on = !next.empty();
      if (goes_on) state = next;
    }
    if (!goes_on) std::abort();  // a dead end
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto grammar = lathe::json_schema_grammar({reinterpret_cast<const char*>(data), size}, "schema");
    lathe::GrammarMatcher matcher(grammar, nullptr);
    write_some(matcher);
  } catch (const lathe::Error&) {}
  return 0;
}
