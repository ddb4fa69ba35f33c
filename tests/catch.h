// Catch2, whichever generation the system has: 2.13 (Debian 12) or 3 (Ubuntu 24.04).
//
// Tests are written in the spelling of Catch2 3 (`Catch::Approx`, `Catch::Matchers::ContainsSubstring`); the few names
// that 2.13 spells otherwise are given the newer name here. `SKIP` exists in 3 alone: use `lathe::test::skip`.
#pragma once

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_approx.hpp>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators_all.hpp>
#include <catch2/matchers/catch_matchers_all.hpp>
#else
#include <catch2/catch.hpp>
namespace Catch {
using Detail::Approx;
}  // namespace Catch
namespace Catch::Matchers {
inline auto ContainsSubstring(const std::string& text) { return Contains(text); }
}  // namespace Catch::Matchers
#endif
