// The budget of a render: counting, and the errors when it is spent.
#include "text/chat_template/budget.h"

#include <utility>

#include "tensor/errors.h"

namespace lathe::jinja {
namespace {

thread_local Budget* active = nullptr;

// Copying text is far cheaper a byte than evaluating a node: 64 bytes are one step.
constexpr std::size_t bytes_a_step = 64, unicode_bytes_a_step = 2;

}  // namespace

Budget::Budget(const Limits& limits) : limits_(limits), outer_(active) { active = this; }
Budget::~Budget() { active = outer_; }
Budget* Budget::current() { return active; }

void Budget::charge(std::int64_t steps) {
  steps_used_ += steps;
  if (steps_used_ > limits_.steps)
    throw Error(fmt::format("the template takes more than {} steps", limits_.steps), "it probably loops without end");
}

void Budget::check_room(std::size_t bytes) const {
  if (bytes > limits_.bytes || bytes_used_ > limits_.bytes - bytes)
    throw Error(fmt::format("the template's output and values take more than {} MiB", limits_.bytes >> 20));
}

void Budget::allocate(std::size_t bytes) {
  check_room(bytes);
  bytes_used_ += bytes;
}

void charge(std::int64_t steps) {
  if (active) active->charge(steps);
}

void charge_text(std::size_t bytes) {
  if (active) active->charge(static_cast<std::int64_t>(bytes / bytes_a_step) + 1);
}

void charge_unicode(std::size_t bytes) {
  if (active) active->charge(static_cast<std::int64_t>(bytes / unicode_bytes_a_step) + 1);
}

void check_room(std::size_t bytes) {
  if (active) active->check_room(bytes);
}

Tracked::Tracked(std::size_t bytes) : budget_(active), bytes_(bytes) {
  if (budget_) budget_->allocate(bytes);
}

Tracked::~Tracked() {
  if (budget_) budget_->release(bytes_);
}

void Tracked::grow(std::size_t bytes) {
  if (budget_) budget_->allocate(bytes);
  bytes_ += bytes;
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
