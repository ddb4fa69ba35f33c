// See pickle.h. The instructions are those that torch.save writes, today and from Python 2, and a few of their kin;
// every other one is refused by its number, those that make or call objects (INST, OBJ, NEWOBJ, EXT) among them.
#include "formats/pickle.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "formats/quote.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

using Kind = PickleValue::Kind;

constexpr size_t kLargestPickle = size_t{64} << 20;
// An instruction of one byte makes a value of 64 or an entry of the memo of about as many. A tensor takes some 20
// values.
constexpr size_t kMostValues = size_t{2} << 20;

// The instructions, by the names of pickletools.
enum : uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kBinFloat = 'G',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersid = 'Q',
  kReduce = 'R',
  kBinString = 'T',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kEmptyList = ']',
  kEmptyTuple = ')',
  kEmptyDict = '}',
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kProtocol = 0x80,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
};

const char* kind_name(Kind kind) {
  static constexpr const char* kNames[] = {"None",    "a boolean", "an integer",   "a number", "a text", "bytes",
                                           "a tuple", "a list",    "a dictionary", "a global", "a call", "a reference"};
  return kNames[static_cast<size_t>(kind)];
}

}  // namespace

class PickleMachine {
 public:
  PickleMachine(Pickle& pickle, std::span<const uint8_t> bytes, std::span<const PickleGlobal> allowed,
                const std::string& source)
      : pickle_(pickle),
        bytes_(bytes.first(std::min(bytes.size(), kLargestPickle))),
        allowed_(allowed),
        source_(source) {}

  void run() {
    do {
      instruction_at_ = position_;
      instruction_ = number<uint8_t>();
    } while (step());
    pickle_.root_ = pop();
    pickle_.size_ = position_;
  }

 private:
  template <class... Args>
  void require(bool condition, fmt::format_string<Args...> format, Args&&... args) const {
    if (!condition) [[unlikely]]
      throw Error(
          fmt::format("pickle: {}: at byte {} (instruction {:#04x}): ", source_, instruction_at_, instruction_) +
          fmt::format(format, std::forward<Args>(args)...));
  }

  // --- the input
  std::string_view take(uint64_t count) {
    require(count <= bytes_.size() - position_, "expected {} more bytes, found {}", count, bytes_.size() - position_);
    const auto* begin = reinterpret_cast<const char*>(bytes_.data()) + position_;
    position_ += count;
    return {begin, static_cast<size_t>(count)};
  }
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view line() {
    const auto rest = bytes_.subspan(position_);
    const auto end = std::find(rest.begin(), rest.end(), '\n');
    require(end != rest.end(), "expected a line, found the end");
    const std::string_view text = take(static_cast<size_t>(end - rest.begin()));
    take(1);
    return text;
  }
  // A whole number of `count` bytes, two's complement, little endian.
  int64_t long_integer(size_t count) {
    require(count <= 8, "an integer of {} bytes, expected at most 8", count);
    const std::string_view digits = take(count);
    if (count == 0) return 0;
    uint64_t value = (static_cast<uint8_t>(digits.back()) & 0x80u) != 0 ? ~uint64_t{0} : 0;
    std::memcpy(&value, digits.data(), count);
    return static_cast<int64_t>(value);
  }

  // --- the stack
  uint32_t add(PickleValue value) {
    require(pickle_.values_.size() < kMostValues, "more than {} values", kMostValues);
    pickle_.values_.push_back(std::move(value));
    return static_cast<uint32_t>(pickle_.values_.size() - 1);
  }
  void push(PickleValue value) { stack_.push_back(add(std::move(value))); }
  void push(Kind kind, int64_t integer = 0) { push({.kind = kind, .integer = integer, .text = {}, .items = {}}); }
  void push_text(Kind kind, std::string_view text) { push({.kind = kind, .text = text, .items = {}}); }
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  uint32_t pop() {
    require(stack_.size() > floor(), "the stack is empty");
    const uint32_t top = stack_.back();
    stack_.pop_back();
    return top;
  }
  PickleValue& top() {
    require(stack_.size() > floor(), "the stack is empty");
    return pickle_.values_[stack_.back()];
  }
  PickleValue& top(Kind kind) {
    require(top().kind == kind, "expected {} on the stack, found {}", kind_name(kind), kind_name(top().kind));
    return top();
  }
  // The uppermost `count` values, in the order they were pushed.
  std::vector<uint32_t> take_values(size_t count) {
    require(stack_.size() - floor() >= count, "the stack holds {} values, expected {}", stack_.size() - floor(), count);
    const auto from = stack_.end() - static_cast<ptrdiff_t>(count);
    std::vector<uint32_t> values(from, stack_.end());
    stack_.erase(from, stack_.end());
    return values;
  }
  std::vector<uint32_t> take_to_mark() {
    require(!marks_.empty(), "no mark is set");
    std::vector<uint32_t> values = take_values(stack_.size() - floor());
    marks_.pop_back();
    return values;
  }
  void push_tuple(std::vector<uint32_t> items) { push({.kind = Kind::tuple, .text = {}, .items = std::move(items)}); }
  void extend(Kind kind, const std::vector<uint32_t>& values) {
    require(kind == Kind::list || values.size() % 2 == 0, "a dictionary's keys and values are {} in number",
            values.size());
    std::vector<uint32_t>& items = top(kind).items;
    items.insert(items.end(), values.begin(), values.end());
  }

  // --- the memo
  void remember(uint32_t slot) {
    require(stack_.size() > floor(), "the stack is empty");
    require(memo_.size() < kMostValues, "the memo has more than {} values", kMostValues);
    memo_[slot] = stack_.back();
  }
  void recall(uint32_t slot) {
    const auto found = memo_.find(slot);
    require(found != memo_.end(), "the memo has no value {}", slot);
    stack_.push_back(found->second);
  }
  void duplicate() {
    require(stack_.size() > floor(), "the stack is empty");
    stack_.push_back(stack_.back());
  }
  void mark() {
    require(marks_.size() < kMostValues, "more than {} marks", kMostValues);
    marks_.push_back(stack_.size());
  }

  // --- globals and calls
  void push_global(std::string_view module, std::string_view name) {
    const auto found = std::find_if(allowed_.begin(), allowed_.end(),
                                    [&](const PickleGlobal& g) { return g.module == module && g.name == name; });
    if (found == allowed_.end())
      throw Error(fmt::format("pickle: {}: at byte {}: the global {} is not allowed: only what tensors need is read, "
                              "and nothing is run",
                              source_, instruction_at_, quote(std::string(module) + "." + std::string(name))),
                  "if you trust the file, load it where it was written and save its state_dict() alone, best as "
                  "safetensors");
    push(Kind::global, found - allowed_.begin());
  }
  void stack_global() {
    const std::vector<uint32_t> names = take_values(2);
    for (const uint32_t name : names)
      require(pickle_.at(name).kind == Kind::text, "a global's name is {}", kind_name(pickle_.at(name).kind));
    push_global(pickle_.at(names[0]).text, pickle_.at(names[1]).text);
  }
  void reduce() {
    std::vector<uint32_t> call = take_values(2);
    const PickleValue &function = pickle_.at(call[0]), &arguments = pickle_.at(call[1]);
    require(function.kind == Kind::global, "a call of {}, expected one of a known function", kind_name(function.kind));
    const PickleGlobal& global = allowed_[static_cast<size_t>(function.integer)];
    require(global.callable, "a call of {}.{}, which is not allowed", global.module, global.name);
    require(arguments.kind == Kind::tuple, "a call with {}, expected a tuple", kind_name(arguments.kind));
    push({.kind = Kind::call, .text = {}, .items = std::move(call)});
  }
  // Attributes of an object. Only those of a dictionary that a call has made (the `_metadata` of a state_dict) occur;
  // they say nothing about tensors.
  void build() {
    pop();
    require(top().kind == Kind::call || top().kind == Kind::dict, "attributes of {}, which has none",
            kind_name(top().kind));
  }
  // Items of an OrderedDict are set on the value that its call has made.
  void set_items(const std::vector<uint32_t>& values) {
    if (top().kind != Kind::call) return extend(Kind::dict, values);
    require(values.size() % 2 == 0, "a dictionary's keys and values are {} in number", values.size());
    std::vector<uint32_t>& items = top().items;
    items.insert(items.end(), values.begin(), values.end());
  }

  // False after the last instruction.
  bool step() {
    switch (instruction_) {
      case kStop: return false;
      case kProtocol: {
        const auto protocol = number<uint8_t>();
        require(protocol >= 2 && protocol <= 5, "protocol {}, expected 2 to 5", protocol);
        return true;
      }
      case kFrame: number<uint64_t>(); return true;
      case kNone: push(Kind::none); return true;
      case kNewTrue: push(Kind::boolean, 1); return true;
      case kNewFalse: push(Kind::boolean, 0); return true;
      case kBinInt: push(Kind::integer, number<int32_t>()); return true;
      case kBinInt1: push(Kind::integer, number<uint8_t>()); return true;
      case kBinInt2: push(Kind::integer, number<uint16_t>()); return true;
      case kLong1: push(Kind::integer, long_integer(number<uint8_t>())); return true;
      case kBinFloat:
        number<uint64_t>();
        push(Kind::real);
        return true;
      default: return step_text() || step_stack() || step_container();
    }
  }
  bool step_text() {
    switch (instruction_) {
      case kBinUnicode:
      case kBinString: push_text(Kind::text, take(number<uint32_t>())); return true;
      case kShortBinUnicode:
      case kShortBinString: push_text(Kind::text, take(number<uint8_t>())); return true;
      case kBinUnicode8: push_text(Kind::text, take(number<uint64_t>())); return true;
      case kBinBytes: push_text(Kind::bytes, take(number<uint32_t>())); return true;
      case kShortBinBytes: push_text(Kind::bytes, take(number<uint8_t>())); return true;
      default: return false;
    }
  }
  bool step_stack() {
    switch (instruction_) {
      case kMark: mark(); return true;
      case kPop: pop(); return true;
      case kPopMark: take_to_mark(); return true;
      case kDup: duplicate(); return true;
      case kBinPut: remember(number<uint8_t>()); return true;
      case kLongBinPut: remember(number<uint32_t>()); return true;
      case kMemoize: remember(static_cast<uint32_t>(memo_.size())); return true;
      case kBinGet: recall(number<uint8_t>()); return true;
      case kLongBinGet: recall(number<uint32_t>()); return true;
      default: return false;
    }
  }
  bool step_container() {
    switch (instruction_) {
      case kEmptyTuple: push_tuple({}); return true;
      case kTuple1: push_tuple(take_values(1)); return true;
      case kTuple2: push_tuple(take_values(2)); return true;
      case kTuple3: push_tuple(take_values(3)); return true;
      case kTuple: push_tuple(take_to_mark()); return true;
      case kEmptyList: push(Kind::list); return true;
      case kEmptyDict: push(Kind::dict); return true;
      case kAppend: extend(Kind::list, take_values(1)); return true;
      case kAppends: extend(Kind::list, take_to_mark()); return true;
      case kSetItem: set_items(take_values(2)); return true;
      case kSetItems: set_items(take_to_mark()); return true;
      case kGlobal: {
        const std::string_view module = line();
        push_global(module, line());
        return true;
      }
      case kStackGlobal: stack_global(); return true;
      case kReduce: reduce(); return true;
      case kBuild: build(); return true;
      case kBinPersid: push({.kind = Kind::persistent, .text = {}, .items = take_values(1)}); return true;
      default: break;
    }
    require(false, "an instruction that no checkpoint of tensors needs");
    return false;
  }

  Pickle& pickle_;
  std::span<const uint8_t> bytes_;
  std::span<const PickleGlobal> allowed_;
  const std::string& source_;
  size_t position_ = 0, instruction_at_ = 0;
  uint8_t instruction_ = 0;
  std::vector<uint32_t> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint32_t, uint32_t> memo_;
};

Pickle::Pickle(std::span<const uint8_t> bytes, std::span<const PickleGlobal> allowed, const std::string& source) {
  PickleMachine(*this, bytes, allowed, source).run();
}

}  // namespace lathe
