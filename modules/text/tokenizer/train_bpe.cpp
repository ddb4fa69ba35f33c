// See train_bpe.h.
#include "text/tokenizer/train_bpe.h"

#include <algorithm>
#include <queue>
#include <unordered_map>
#include <utility>

#include "tensor/errors.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/byte_level_scheme.h"
#include "text/unicode/utf8.h"

namespace lathe {
namespace {

// The words as symbols, the pairs in them, and the merges so far.
class MergeLearner {
 public:
  using Pair = std::pair<int32_t, int32_t>;

  MergeLearner(const BpeTrainerOptions& options, const Vocabulary& words, const std::vector<int64_t>& counts)
      : options_(options), counts_(counts) {
    for (const std::string& token : options.special_tokens) add_token(token);
    vocabulary_.special = static_cast<int32_t>(vocabulary_.tokens.size());
    std::vector<std::string> bytes;
    for (int byte = 0; byte < 256; ++byte) bytes.push_back(bytes_to_alphabet(std::string(1, static_cast<char>(byte))));
    const std::vector<std::string> by_byte = bytes;
    std::sort(bytes.begin(), bytes.end());  // of UTF-8 the order of the code points
    for (const std::string& byte : bytes) add_token(byte);
    const auto least = static_cast<int64_t>(vocabulary_.tokens.size());
    check(options.vocab_size >= least, "tokenizer", "the vocabulary is to have {} tokens, expected at least {}: {}",
          options.vocab_size, least, "every byte and the special tokens");
    vocabulary_.byte_level = true;
    take_words(words, by_byte);
  }

  NewVocabulary learn() {
    while (static_cast<int64_t>(vocabulary_.tokens.size()) < options_.vocab_size && !queue_.empty()) {
      Waiting best = queue_.top();
      queue_.pop();
      const int64_t count = pairs_.at(best.pair).count;
      if (best.count != count) {  // it has changed since
        best.count = count;
        queue_.push(best);
        continue;
      }
      if (count < 1 || count < options_.min_frequency) break;
      const int32_t token = add_token(vocabulary_.tokens[static_cast<size_t>(best.pair.first)] +
                                      vocabulary_.tokens[static_cast<size_t>(best.pair.second)]);
      vocabulary_.merges.push_back({best.pair.first, best.pair.second});
      for (const uint32_t word : std::exchange(places_[best.places], {})) merge(word, best.pair, token);
      enqueue();
    }
    return std::move(vocabulary_);
  }

 private:
  struct Word {
    size_t begin;   // in symbols_
    size_t length;  // shrinks with every merge
  };
  struct PairCount {
    int64_t count = 0;
    std::vector<uint32_t> words;  // where it has turned up since it was last put into the queue
  };
  struct Waiting {
    int64_t count;
    Pair pair;
    size_t places;  // its words, in places_
    bool operator<(const Waiting& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };
  struct HashPair {
    size_t operator()(const Pair& pair) const {
      const auto both = static_cast<uint64_t>(pair.first) << 32 | static_cast<uint32_t>(pair.second);
      return static_cast<size_t>((both * 0x9E3779B97F4A7C15u) >> 16);
    }
  };

  // The id of a token, a new one or the one that has this text.
  int32_t add_token(const std::string& text) {
    if (const int32_t known = known_.find(text); known >= 0) return known;
    const auto id = static_cast<int32_t>(vocabulary_.tokens.size());
    known_.add(text, id);
    vocabulary_.tokens.push_back(text);
    return id;
  }

  void take_words(const Vocabulary& words, const std::vector<std::string>& by_byte) {
    std::vector<int32_t> ids;
    for (const std::string& byte : by_byte) ids.push_back(known_.find(byte));
    for (int64_t i = 0; i < words.size(); ++i) {
      words_.push_back({symbols_.size(), words.text(i).size()});
      for (const char byte : words.text(i)) symbols_.push_back(ids[static_cast<unsigned char>(byte)]);
      const Word& word = words_.back();
      for (size_t s = word.begin; s + 1 < word.begin + word.length; ++s)
        change({symbols_[s], symbols_[s + 1]}, 1, static_cast<uint32_t>(i));
    }
    enqueue();
  }

  // One pair more or less in a word.
  void change(Pair pair, int by, uint32_t word) {
    PairCount& entry = pairs_[pair];
    entry.count += by * counts_[word];
    if (by < 0) return;
    if (entry.words.empty()) changed_.push_back(pair);
    if (entry.words.empty() || entry.words.back() != word) entry.words.push_back(word);
  }

  // Puts what has turned up into the queue, beside what waits there.
  void enqueue() {
    for (const Pair& pair : changed_) {
      PairCount& entry = pairs_.at(pair);
      std::vector<uint32_t> words = std::exchange(entry.words, {});
      if (entry.count <= 0) continue;
      queue_.push({entry.count, pair, places_.size()});
      places_.push_back(std::move(words));
    }
    changed_.clear();
  }

  void merge(uint32_t number, Pair pair, int32_t token) {
    Word& word = words_[number];
    int32_t* symbols = symbols_.data() + word.begin;
    size_t kept = 0;
    for (size_t i = 0; i < word.length; ++i) {
      if (i + 1 == word.length || Pair(symbols[i], symbols[i + 1]) != pair) {
        symbols[kept++] = symbols[i];
        continue;
      }
      if (kept > 0) {
        change({symbols[kept - 1], pair.first}, -1, number);
        change({symbols[kept - 1], token}, 1, number);
      }
      symbols[kept++] = token;
      ++i;
      if (i + 1 < word.length) {
        change({pair.second, symbols[i + 1]}, -1, number);
        change({token, symbols[i + 1]}, 1, number);
      }
    }
    word.length = kept;
  }

  const BpeTrainerOptions& options_;
  const std::vector<int64_t>& counts_;
  NewVocabulary vocabulary_;
  Vocabulary known_;  // its tokens by their text
  std::vector<Word> words_;
  std::vector<int32_t> symbols_;
  std::unordered_map<Pair, PairCount, HashPair> pairs_;
  std::vector<Pair> changed_;
  std::vector<std::vector<uint32_t>> places_;
  std::priority_queue<Waiting> queue_;
};

}  // namespace

BpeTrainer::BpeTrainer()
    : words_of_(make_split(Regex(find_byte_level_scheme("gpt2").pattern), SplitBehavior::isolated)) {}

void BpeTrainer::add(std::string_view text) {
  check_utf8(text, "tokenizer");
  const auto count = [this](Piece piece) {
    int32_t word = words_.find(piece.text);
    if (word < 0) {
      check(words_.size() < Vocabulary::kMaxSize, "tokenizer", "the text has more than {} different words",
            Vocabulary::kMaxSize);
      word = static_cast<int32_t>(words_.size());
      words_.add(piece.text, word);
      counts_.push_back(0);
    }
    ++counts_[static_cast<size_t>(word)];
  };
  while (!text.empty()) {
    const std::string_view line = text.substr(0, std::min(text.find('\n'), text.size() - 1) + 1);
    words_of_->split({line, true}, count);
    text.remove_prefix(line.size());
  }
}

NewVocabulary BpeTrainer::train(const BpeTrainerOptions& options) const {
  return MergeLearner(options, words_, counts_).learn();
}

}  // namespace lathe
