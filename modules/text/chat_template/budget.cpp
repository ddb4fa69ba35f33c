// The budget of a render: counting, and the errors when it is spent.
#include "text/chat_template/budget.h"

#include "tensor/errors.h"

template <>
lathe::jinja::Budget*& lathe::Active<lathe::jinja::Budget>::slot() {
  static thread_local jinja::Budget* budget = nullptr;
  return budget;
}

namespace lathe::jinja {
namespace {

// Copying text is far cheaper a byte than evaluating a node: 64 bytes are one step.
constexpr std::size_t bytes_a_step = 64, unicode_bytes_a_step = 2;

}  // namespace

void Budget::check_room(std::size_t bytes) const {
  if (bytes > limits.bytes || bytes_used > limits.bytes - bytes)
    throw Error(fmt::format("the template's output and values take more than {} MiB", limits.bytes >> 20));
}

void charge(std::int64_t steps) {
  Budget* budget = Active<Budget>::current();
  if (!budget) return;
  budget->steps_used += steps;
  if (budget->steps_used > budget->limits.steps)
    throw Error(fmt::format("the template takes more than {} steps", budget->limits.steps),
                "it probably loops without end");
}

void charge_text(std::size_t bytes) { charge(static_cast<std::int64_t>(bytes / bytes_a_step) + 1); }
void charge_unicode(std::size_t bytes) { charge(static_cast<std::int64_t>(bytes / unicode_bytes_a_step) + 1); }

void check_room(std::size_t bytes) {
  if (const Budget* budget = Active<Budget>::current()) budget->check_room(bytes);
}

Tracked::Tracked(std::size_t bytes) : budget_(Active<Budget>::current()) { grow(bytes); }

Tracked::~Tracked() {
  if (budget_) budget_->bytes_used -= bytes_;
}

void Tracked::grow(std::size_t bytes) {
  if (!budget_) return;
  budget_->check_room(bytes);
  budget_->bytes_used += bytes, bytes_ += bytes;
}

void TextBuilder::append(std::string_view text) {
  charge_text(text.size());
  grow(text.size());
  text_.append(text);
}

void TextBuilder::append(std::size_t count, char character) {
  charge_text(count);
  grow(count);
  text_.append(count, character);
}

}  // namespace lathe::jinja
