#include "text/tokenizer/gguf_pre_tokenizers.h"

#include <algorithm>

namespace lathe {
namespace {

constexpr const char* kGpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)";
constexpr const char* kDigit = "\\p{N}";
constexpr const char* kTekken =
    "[^\\r\\n\\p{L}\\p{N}]?((?=[\\p{L}])([^a-z]))*((?=[\\p{L}])([^A-Z]))+|"
    "[^\\r\\n\\p{L}\\p{N}]?((?=[\\p{L}])([^a-z]))+((?=[\\p{L}])([^A-Z]))*|\\p{N}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kWordsAndPunctuation = " ?[^(\\s|.,!?…。，、।۔،)]+";
constexpr const char* kHanAndKana = "[一-龥぀-ゟ゠-ヿ]+";
constexpr const char* kEastAsian = "[一-龥ࠀ-一가-퟿]+";
constexpr const char* kDeepseek3 =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
    " ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
// The cased letters of Latin, Greek, Cyrillic, Armenian, Georgian, Cherokee and a few smaller scripts, as DeepSeek's
// tokenizer.json lists them.
// It would break these literals anew each time.
// clang-format off
constexpr const char* kDeepseekLetters =
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-"
    "ἕἘ-"
    "Ἕἠ-"
    "ὅὈ-"
    "Ὅὐ-"
    "ὗὙὛὝὟ-\\x{1F7D}ᾀ-ᾴᾶ-ᾼ\\x{1FBE}ῂ-ῄῆ-ῌῐ-\\x{1FD3}ῖ-\\x{1FDB}ῠ-Ῥῲ-ῴῶ-ῼ"
    "ℂℇℊ-ℓℕℙ-ℝℤ\\x{2126}ℨ\\x{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-"
    "ｚ𐐀-"
    "𐑏𐒰-"
    "𐓓𐓘-"
    "𐓻𐲀-𐲲𐳀-"
    "𐳲𑢠-𑣟𞤀-𞥃]+";
// clang-format on

// Parts that many patterns share.
#define CONTRACTION "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
#define WORD "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define MARKS_AND_SPACES " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
// A word whose capitals come first; o200k's, and llama.cpp's form of it.
#define CASED                                                                                                         \
  "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" CONTRACTION "?|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" CONTRACTION \
  "?|"
#define NEARLY_CASED(letters)                                                                  \
  "[^\\r\\n\\p{L}\\p{N}]?((?=[" letters "])([^a-z]))*((?=[" letters "])([^A-Z]))+" CONTRACTION \
  "?|"                                                                                         \
  "[^\\r\\n\\p{L}\\p{N}]?((?=[" letters "])([^a-z]))+((?=[" letters "])([^A-Z]))*" CONTRACTION "?|"
#define SLASHES_AND_SPACES " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES

constexpr const char* kLlama3 = CONTRACTION "|" WORD "|\\p{N}{1,3}|" MARKS_AND_SPACES;
constexpr const char* kQwen2 = CONTRACTION "|" WORD "|\\p{N}|" MARKS_AND_SPACES;
constexpr const char* kQwen35 =
    CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES;
constexpr const char* kJais2 = CONTRACTION
    "|" WORD
    "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|"
    "\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}";
constexpr const char* kGpt4o = NEARLY_CASED("\\p{L}") "\\p{N}{1,3}|" SLASHES_AND_SPACES;
constexpr const char* kGraniteMultilingual = NEARLY_CASED("\\p{L}\\p{M}") "\\p{N}{1,3}|" SLASHES_AND_SPACES;
constexpr const char* kTinyAya = CASED "\\p{N}{1,3}|" SLASHES_AND_SPACES;
constexpr const char* kYoutu = CASED "\\p{N}|" SLASHES_AND_SPACES;
constexpr const char* kYoutuScripts =
    "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+";
// The model's own pattern: ideographs stand apart from other letters.
constexpr const char* kKimi =
    "[\\p{Han}]+|"
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]"
    "+"
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]"
    "*"
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}|" MARKS_AND_SPACES;
constexpr const char* kBailing = "'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|" WORD
                                 "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+";
constexpr const char* kSeedCoder = CONTRACTION "|" WORD "|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" SPACES;
constexpr const char* kExaoneMoe = CONTRACTION
    "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|"
    "\\s*[\\r\\n]|\\s+(?!\\S)|\\s+";
constexpr const char* kSpark =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
    " ?[\\p{P}\\p{S}]+|[\\r\\n]|\\s+(?!\\S)|\\s+";
// Threes from the right: what is left over comes first.
constexpr const char* kThrees = "\\p{N}{1,3}(?=(?:\\p{N}{3})*(?!\\p{N}))";
constexpr const char* kAfmoeScripts =
    "[\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{F900}-\\x{FAFF}\\x{3040}-\\x{30FF}\\x{FF65}-\\x{FF9F}\\x{2F00}-\\x{"
    "2FDF}"
    "\\x{E40}-\\x{EFF}\\x{1780}-\\x{17FF}\\x{1000}-\\x{109F}\\x{AA60}-\\x{AA7F}\\x{A9E0}-\\x{A9FF}\\x{AC00}-\\x{D7AF}"
    "\\x{1100}-\\x{11FF}]+";
constexpr const char* kLines = "[^\\n]+|[\\n]+";

}  // namespace

const std::vector<GgufPreTokenizer>& gguf_pre_tokenizers() {
  static const std::vector<GgufPreTokenizer> table = {
      {{"default"}, {"[\\p{P}\\$\\+<=>\\^~\\|]+", kGpt2, "\\p{N}+", "[0-9][0-9][0-9]"}},
      {{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"},
       {kLlama3},
       true,
       true},
      {{"dbrx", "smaug-bpe", "chatglm-bpe", "glm4"}, {kLlama3}},
      {{"jais-2"}, {kJais2}},
      {{"gpt-2", "phi-2", "mpt", "olmo", "jais", "gigachat", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es",
        "jina-v2-de", "jina-v2-code", "roberta-bpe", "a.x-4.0", "mellum", "modern-bert", "exaone4", "trillion",
        "granite-docling"},
       {kGpt2}},
      {{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"}, {kDigit, kGpt2}},
      {{"qwen2", "stablelm2", "megrez", "deepseek-r1-qwen", "kormo", "f2llmv2", "hunyuan", "solar-open", "grok-2"},
       {kQwen2}},
      {{"ufakzeka"}, {WORD "|\\p{N}|" MARKS_AND_SPACES}},
      {{"laguna"}, {kLines, kQwen2}},
      {{"minicpm5"}, {"\\p{N}{1,3}", CONTRACTION "|" WORD "|\\p{N}+|" MARKS_AND_SPACES}, true},
      {{"qwen35"}, {kQwen35}},
      {{"tekken"}, {kTekken}, true, true},
      {{"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"}, {kGpt4o}},
      {{"granite-embed-multi-97m"}, {kGraniteMultilingual}, true},
      {{"tiny_aya", "cohere2moe"}, {"\\d{1,3}(?=(?:\\d{3})*\\b)", kTinyAya}},
      {{"kimi-k2"}, {kKimi}},
      {{"superbpe"}, {"\\p{N}+", "(?=(\\d{3})+(?!\\d))"}},
      {{"bailingmoe", "bailingmoe2", "llada-moe"}, {kBailing}},
      {{"seed-coder"}, {kSeedCoder}},
      {{"exaone-moe"}, {kExaoneMoe}},
      {{"falcon"}, {"[\\p{P}\\$\\+<=>\\^~\\|`]+", kGpt2, "[0-9][0-9][0-9]"}},
      {{"deepseek-llm"},
       {"[\\r\\n]", kDeepseekLetters, "\\s?[!-/:-~！-／：-～‘-‟　-。]+", "\\s+$", kEastAsian, "\\p{N}+"}},
      {{"deepseek-coder"}, {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", kEastAsian, kDigit}},
      {{"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"}, {"\\p{N}{1,3}", kHanAndKana, kDeepseek3}},
      {{"spark2_5"}, {"\\p{N}{1,3}", kHanAndKana, kSpark, kDigit}},
      {{"afmoe"}, {kThrees, kAfmoeScripts, kDeepseek3}},
      {{"youtu"}, {kYoutuScripts, kYoutu}, true},
      {{"poro-chat", "bloom", "gpt3-finnish"}, {kWordsAndPunctuation}},
      {{"viking"}, {kWordsAndPunctuation, kDigit}},
      {{"gemma4", "granite-embed-multi-311m", "sarvam-moe"}, {kLines}, false, false, true},
      {{"chameleon"},
       {"<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )", kDigit,
        "[\\p{P}!-/:-@\\[-`{-~]", kGpt2},
       false,
       true},
  };
  return table;
}

#undef CONTRACTION
#undef WORD
#undef SPACES
#undef MARKS_AND_SPACES
#undef UPPER
#undef LOWER
#undef CASED
#undef NEARLY_CASED
#undef SLASHES_AND_SPACES

std::unique_ptr<PreTokenizer> make_gguf_pre_tokenizer(const GgufPreTokenizer& known) {
  std::vector<std::unique_ptr<PreTokenizer>> stages;
  for (const char* pattern : known.patterns) stages.push_back(make_split(Regex(pattern), SplitBehavior::isolated));
  stages.push_back(make_byte_level(false, false));
  return make_sequence(std::move(stages));
}

const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name) {
  for (const GgufPreTokenizer& entry : gguf_pre_tokenizers())
    if (std::find(entry.names.begin(), entry.names.end(), name) != entry.names.end()) return &entry;
  return nullptr;
}

}  // namespace lathe
