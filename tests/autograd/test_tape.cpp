// The rules of the tape: what is recorded, whose gradient is kept, added to and freed.
#include "autograd/tape.h"
#include "tests/autograd/gradient_check.h"
#include "tests/catch.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;

namespace {

// A tensor (rows, columns) f64 of one value.
Tensor filled(Shape shape, double value) {
  Tensor t = Tensor::empty(shape, DType::f64);
  std::fill_n(t.data<double>(), t.elements(), value);
  return t;
}

// (1, n) -> (1, 1): the sum, over frozen ones.
Tensor sum(const Tensor& x, Parameter& ones) {
  ones = Parameter(Parameter::Kind::matrix, {1, x.elements()});
  ones.value = filled(ones.shape, 1.0);
  ones.trainable = false;
  return linear(x.view({1, x.elements()}), {&ones, nullptr});
}

}  // namespace

TEST_CASE("without a tape, or with nothing that wants a gradient, nothing is recorded") {
  Parameter w = random_parameter({3, 2}, 1);
  const Tensor x = random_tensor({4, 2}, 2);
  CHECK(linear(x, {&w, nullptr}).tape_id == 0);
  Tape tape;
  Tape::Scope scope(tape);
  CHECK(Tape::current() == &tape);
  w.trainable = false;
  CHECK(linear(x, {&w, nullptr}).tape_id == 0);
  CHECK(add(x, x).tape_id == 0);
  CHECK(tape.entries() == 0);
  w.trainable = true;
  const Tensor y = linear(x, {&w, nullptr});
  CHECK(y.tape_id != 0);
  CHECK(tape.entries() == 1);
  {
    Tape::Pause pause;
    CHECK(Tape::current() == nullptr);
    CHECK(add(y, y).tape_id == 0);
  }
  CHECK(add(y, y).tape_id != 0);
  CHECK(tape.entries() == 2);
}

TEST_CASE("scopes nest and restore") {
  Tape outer, inner;
  CHECK(Tape::current() == nullptr);
  {
    Tape::Scope a(outer);
    {
      Tape::Scope b(inner);
      CHECK(Tape::current() == &inner);
    }
    CHECK(Tape::current() == &outer);
  }
  CHECK(Tape::current() == nullptr);
}

TEST_CASE("the first writer of a gradient is kept, the second is added, a shared one is not written to") {
  Tape tape;
  Tape::Scope scope(tape);
  Tensor a = filled({1, 3}, 1), b = filled({1, 3}, 2);
  Tape::watch(a);
  Tape::watch(b);
  Parameter ones;
  // a's gradient: 1 from the first sum and 5 from the second; b's: 1 from the first alone, though both got one tensor.
  const Tensor y = add(add(a, b), scale(a, 5.0));
  tape.backward(sum(y, ones));
  CHECK(values_in_double(tape.gradient_of(a)) == std::vector<double>(3, 6.0));
  CHECK(values_in_double(tape.gradient_of(b)) == std::vector<double>(3, 1.0));
}

TEST_CASE("a view's gradient is its source's") {
  Tape tape;
  Tape::Scope scope(tape);
  Tensor a = random_tensor({2, 6}, 3);
  Tape::watch(a);
  Parameter ones;
  const Tensor y = scale(a.view({2, 3, 2}), 2.0);
  CHECK(a.view({12}).tape_id == a.tape_id);
  tape.backward(sum(y, ones));
  CHECK(tape.gradient_of(a).shape() == Shape{2, 6});
  CHECK(values_in_double(tape.gradient_of(a)) == std::vector<double>(12, 2.0));
}

TEST_CASE("columns of a packed projection that nobody used have a gradient of zero") {
  Tape tape;
  Tape::Scope scope(tape);
  Tensor a = random_tensor({2, 4}, 3);
  Tape::watch(a);
  Parameter ones;
  tape.backward(sum(scale(slice_columns(a, 1, 2), 3.0), ones));
  CHECK(values_in_double(tape.gradient_of(a)) == std::vector<double>{0, 3, 3, 0, 0, 3, 3, 0});
}

TEST_CASE("a watched tensor that nothing reaches has a gradient of zero") {
  Tape tape;
  Tape::Scope scope(tape);
  Tensor a = random_tensor({1, 2}, 3), b = random_tensor({1, 2}, 4);
  Tape::watch(a);
  Tape::watch(b);
  Parameter ones;
  const Tensor unused = scale(b, 2.0);
  tape.backward(sum(a, ones), 2.5);
  CHECK(values_in_double(tape.gradient_of(a)) == std::vector<double>(2, 2.5));
  CHECK(values_in_double(tape.gradient_of(b)) == std::vector<double>(2, 0.0));
}

TEST_CASE("parameters add up the gradients of several backward calls") {
  Parameter w = random_parameter({1, 3}, 5), frozen = random_parameter({3, 3}, 6);
  frozen.trainable = false;
  const auto step = [&] {
    Tape tape;
    Tape::Scope scope(tape);
    const Tensor y = linear(linear(filled({1, 3}, 2.0), {&frozen, nullptr}), {&w, nullptr});
    tape.backward(y);
    CHECK(tape.entries() == 0);
  };
  step();
  const std::vector<double> once = values_in_double(w.gradient());
  step();
  const std::vector<double> twice = values_in_double(w.gradient());
  for (size_t i = 0; i < 3; ++i) CHECK(twice[i] == 2 * once[i]);
  CHECK_FALSE(frozen.grad.defined());
}

TEST_CASE("one parameter used twice gets the sum of both uses") {
  Parameter w = random_parameter({2, 2}, 5);
  Tape tape;
  Tape::Scope scope(tape);
  const Tensor x = filled({1, 2}, 1.0);
  Parameter ones;
  tape.backward(sum(add(linear(x, {&w, nullptr}), linear(scale(x, 3.0), {&w, nullptr})), ones));
  CHECK(values_in_double(w.gradient()) == std::vector<double>(4, 4.0));
}

TEST_CASE("gradients of f32, bf16 and f16 parameters are f32") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    Parameter w = random_parameter({1, 3}, 5);
    w.value = convert(w.value, dtype);
    Tape tape;
    Tape::Scope scope(tape);
    tape.backward(linear(convert(filled({1, 3}, 2.0), DType::f32), {&w, nullptr}));
    CHECK(w.gradient().dtype() == DType::f32);
    CHECK(values_in_double(w.gradient()) == std::vector<double>(3, 2.0));
  }
}

TEST_CASE("saved tensors are freed as their entries run") {
  Tape tape;
  Tensor x = random_tensor({1, 4}, 7);
  Tensor loss;
  std::weak_ptr<const void> saved;
  std::vector<bool> alive;
  Parameter w = random_parameter({1, 4}, 8);
  {
    Tape::Scope scope(tape);
    Tape::watch(x);
    Tensor early = scale(x, 1.0);
    Tape::record("probe", early, [&, id = early](const Tensor& dy, Gradients& g) {
      alive.push_back(!saved.expired());
      g.add(x, dy);
    });
    const Tensor middle = scale(early, 2.0);
    saved = middle.storage();
    loss = linear(middle, {&w, nullptr});
  }
  CHECK_FALSE(saved.expired());  // the product's entry holds its input
  tape.backward(loss);
  CHECK(alive == std::vector<bool>{false});
  CHECK(saved.expired());
}

TEST_CASE("a sum holds no values for its backward") {
  Tape tape;
  Tape::Scope scope(tape);
  Tensor x = random_tensor({1, 4}, 7);
  Tape::watch(x);
  std::weak_ptr<const void> inner;
  Tensor y;
  {
    const Tensor doubled = scale(x, 2.0);
    inner = doubled.storage();
    y = add(doubled, x);
  }
  CHECK(inner.expired());
  Parameter ones;
  tape.backward(sum(y, ones));
  CHECK(values_in_double(tape.gradient_of(x)) == std::vector<double>(4, 3.0));
}

TEST_CASE("backward starts from one element that this tape recorded") {
  Parameter w = random_parameter({3, 2}, 1);
  const Tensor x = random_tensor({1, 2}, 2);
  Tape tape, other;
  Tensor y;
  {
    Tape::Scope scope(tape);
    y = linear(x, {&w, nullptr});
  }
  CHECK_THROWS_WITH(tape.backward(y), ContainsSubstring("one element, loss (1, 3) f64 cpu"));
  CHECK_THROWS_WITH(tape.backward(filled({1}, 0)), ContainsSubstring("not recorded on this tape"));
  CHECK_THROWS_AS(tape.backward(Tensor{}), Error);
  {
    Tape::Scope scope(other);
    Parameter ones;
    const Tensor loss = sum(y, ones);
    CHECK_THROWS_WITH(tape.backward(loss), ContainsSubstring("not recorded on this tape"));
  }
  Tensor z = x;
  CHECK_THROWS_WITH(Tape::watch(z), ContainsSubstring("no tape"));
}

TEST_CASE("a backward that throws leaves an empty tape") {
  Tape tape;
  Tensor x = random_tensor({1, 1}, 7);
  Tape::Scope scope(tape);
  Tape::watch(x);
  Tensor y = scale(x, 1.0);
  Tape::record("fails", y, [](const Tensor&, Gradients&) { throw Error("on purpose"); });
  CHECK_THROWS_WITH(tape.backward(y), ContainsSubstring("on purpose"));
  CHECK(tape.entries() == 0);
  CHECK(Tape::current() == &tape);
}
