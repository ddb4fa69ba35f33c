// Which tokens may follow in a text that a grammar constrains.
//
// A match is a stack of parts that are still to come; several possible ones are the threads of a state. The parts
// above the innermost rule are the thread's local stack, below it lies the thread that goes on when the rule ends.
//
// The tokens of a vocabulary stand in a trie of their bytes. Which of them may follow is found once for each local
// stack, by a walk of the trie with the rule alone, and kept; only where the rule may end within a token does the walk
// go on with what lies below. So a step in a string, in which nearly every token may follow, costs one copy of a bit
// mask and a look at the tokens that hold a quotation mark.
//
// No token that is let through leads to a dead end: all that is still to come is possible (Grammar), so there are bytes
// that finish the text, and a vocabulary with all bytes can write them.
#pragma once
#include <array>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>

#include "text/grammar/grammar.h"
#include "text/tokenizer/tokenizer.h"

namespace lathe {

// The bytes of a vocabulary's tokens as a trie, its nodes in the order in which a walk meets them.
class VocabularyTrie {
 public:
  struct Node {
    uint32_t end;          // behind its descendants
    uint32_t first_token;  // its own end where the next node's begin
    uint32_t depth;        // in bytes
    uint8_t byte;          // the last one
  };
  // `size`: of the model's rows of logits, which may be more than the tokenizer has tokens.
  VocabularyTrie(const Tokenizer& tokenizer, int64_t size);

  const std::vector<Node>& nodes() const { return nodes_; }  // and one behind the last
  std::span<const int32_t> tokens(uint32_t node) const {
    return std::span(tokens_).subspan(nodes_[node].first_token,
                                      nodes_[node + 1].first_token - nodes_[node].first_token);
  }
  // Special tokens begin with Grammar::kSpecial; empty: a token that stands for nothing.
  const std::string& bytes(int32_t token) const { return bytes_[static_cast<size_t>(token)]; }
  size_t size() const { return bytes_.size(); }
  uint32_t longest() const { return longest_; }

 private:
  std::vector<std::string> bytes_;
  std::vector<Node> nodes_;
  std::vector<int32_t> tokens_;
  uint32_t longest_ = 0;
};

// For one thread at a time. All members throw Error where a grammar is so ambiguous that a step would take too long.
class GrammarMatcher {
 public:
  // The threads of a text, ascending; of the matcher that made it. A text without threads does not match.
  using State = std::vector<uint32_t>;

  GrammarMatcher(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const VocabularyTrie> vocabulary);

  const Grammar& grammar() const { return *grammar_; }
  State begin() const { return begin_; }
  State after(State state, std::string_view bytes);
  State after(State state, int32_t token) { return after(std::move(state), vocabulary_->bytes(token)); }
  bool may_end(const State& state);
  bool must_end(const State& state);

  // A bit for each token, the lowest of the first word first: whether it may follow.
  std::vector<uint32_t> allowed(const State& state);
  size_t words() const { return (vocabulary_->size() + 31) / 32; }  // of these bits
  // Whether what it remembers has grown so large that a fresh one is better for the next request.
  bool is_worn() const { return threads_.size() + locals_.size() > kWorn; }

 private:
  static constexpr size_t kWorn = size_t{1} << 18, kKeptStates = 1 << 12, kKeptBytes = size_t{64} << 20;
  static constexpr int64_t kMostWork = int64_t{1} << 24;  // of a call, in steps of a walk: a fraction of a second
  static constexpr int64_t kPartWork = 32;                // a part that is looked at, in these steps
  static constexpr uint32_t kDead = UINT32_MAX, kUnknown = kDead - 1;

  struct Local {
    GrammarPart part;  // on top
    uint32_t below;    // 0: nothing
    bool operator==(const Local&) const = default;
  };
  struct Thread {
    uint32_t local, below;  // never empty; 0: the text is complete
    bool operator==(const Thread&) const = default;
  };
  struct Hash {
    size_t operator()(const Local& l) const { return mix({l.part.expression, l.part.next, l.part.most, l.below}); }
    size_t operator()(const Thread& t) const { return mix({t.local, t.below}); }
    size_t operator()(const State& s) const { return mix(s); }
    static size_t mix(std::span<const uint32_t> words);
    static size_t mix(std::initializer_list<uint32_t> words) { return mix({words.begin(), words.size()}); }
  };
  template <class Value>
  struct Pool {  // equal values have one number, from 1 on
    std::vector<Value> values = {Value{}};
    std::unordered_map<Value, uint32_t, Hash> places = {};
    uint32_t add(const Value& value);
    size_t size() const { return values.size(); }
    const Value& operator[](uint32_t i) const { return values[i]; }
  };
  // A place in a text or a set of bytes, which needs a byte, and what comes then.
  struct Leaf {
    GrammarPart part;
    uint32_t rest, below;  // local stack and thread
  };
  struct Expanded {
    std::vector<Leaf> leaves;
    bool complete = false;
  };
  // A state met by a walk, with the states that follow it by byte.
  struct WalkState {
    Expanded expanded;
    std::unique_ptr<std::array<uint32_t, 256>> next;
  };
  struct LocalTokens {
    std::vector<int32_t> tokens;  // or, where they are many,
    std::vector<uint32_t> bits;
    std::vector<uint32_t> exits;  // nodes at which the rule may end
  };

  uint32_t local(GrammarPart part, uint32_t below) { return locals_.add({part, below}); }
  uint32_t thread(uint32_t local, uint32_t below) { return local == 0 ? below : threads_.add({local, below}); }
  uint32_t clamped(uint32_t local);
  void work(int64_t steps);
  Expanded expand(const State& state);
  void expand_top(uint32_t thread, std::vector<uint32_t>& open, Expanded& found);
  State consume(const Expanded& from, uint8_t byte);
  uint32_t walk_state(const State& state);
  uint32_t follow(uint32_t walk_state, uint8_t byte);
  template <class Take>
  void walk(uint32_t from, uint32_t node, const Take& take, std::vector<uint32_t>& exits);
  const LocalTokens& local_tokens(uint32_t local);
  void add_tokens(uint32_t thread, std::vector<uint32_t>& bits);
  void add_tokens(uint32_t thread, const std::vector<uint32_t>& nodes, std::vector<uint32_t>& bits);

  std::shared_ptr<const Grammar> grammar_;
  std::shared_ptr<const VocabularyTrie> vocabulary_;
  Pool<Local> locals_;
  Pool<Thread> threads_;
  State begin_;
  std::vector<uint32_t> met_;  // by thread: the number of the expansion that met it last
  uint32_t expansion_ = 0;
  int64_t work_ = 0;
  std::deque<WalkState> walk_states_;
  std::unordered_map<State, uint32_t, Hash> walk_places_;
  std::vector<uint32_t> path_;
  std::unordered_map<uint32_t, LocalTokens> local_tokens_;  // by local stack
  size_t kept_bytes_ = 0;
};

}  // namespace lathe
