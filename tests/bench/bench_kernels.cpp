// How fast the kernels are beside what the machine can do, for every instruction set that it has:
//   bench_kernels [--json FILE] [SECTION...]      sections: linear attention small training errors promise; default:
//   all
// LATHE_THREADS sets the team. scripts/write_performance.py makes docs/performance.md of the JSON.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>

#include "kernels/peak_rates.h"
#include "tensor/threads.h"
#include "tests/bench/bench.h"

using namespace lathe;
using namespace lathe::bench;

namespace {

constexpr const char* kSections[] = {"linear", "attention", "small", "training", "errors", "promise"};

void ceilings(Report& report) {
  const PeakRates peaks = measure_peak_rates();
  const double read = measure(Ceiling::read), copy = measure(Ceiling::copy);
  std::printf("%-12s ceilings  read %.1f GB/s, copy in cache %.1f GB/s; f32 %.1f, bf16 %.1f, int8 %.1f Gop/s\n",
              std::string(name(cpu_isa())).c_str(), read / 1e9, copy / 1e9, peaks.floats / 1e9, peaks.bf16 / 1e9,
              peaks.integers / 1e9);
  report.json["ceilings"].push_back({{"isa", name(cpu_isa())},
                                     {"read", read / 1e9},
                                     {"copy", copy / 1e9},
                                     {"f32", peaks.floats / 1e9},
                                     {"bf16", peaks.bf16 / 1e9},
                                     {"int8", peaks.integers / 1e9}});
}

void run(Report& report, const std::vector<std::string>& sections) {
  const auto wanted = [&](const char* section) {
    return sections.empty() || std::find(sections.begin(), sections.end(), section) != sections.end();
  };
  const std::vector<CpuIsa> isas = available_isas();
  report.json["threads"] = thread_team().size();
  for (auto isa = isas.rbegin(); isa != isas.rend(); ++isa) {
    set_cpu_isa(*isa);
    report.json["isas"].push_back(name(*isa));
    ceilings(report);
    const bool best = isa == isas.rbegin();
    if (wanted("linear")) linears(report, best);
    if (wanted("attention")) attentions(report, best);
    if (wanted("small")) {
      small_kernels(report);
      quantisers(report);
    }
    if (wanted("training")) training_kernels(report);
    if (wanted("errors")) errors(report);
    if (wanted("promise") && best) promise(report);
  }
}

}  // namespace

int main(int argc, char** argv) try {
  std::string file;
  std::vector<std::string> sections;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--json" && i + 1 < argc) {
      file = argv[++i];
    } else if (std::find(std::begin(kSections), std::end(kSections), argument) != std::end(kSections)) {
      sections.push_back(argument);
    } else {
      std::fprintf(stderr,
                   "usage: bench_kernels [--json FILE] [linear] [attention] [small] [training] [errors] [promise]\n");
      return 2;
    }
  }
  Report report;
  run(report, sections);
  if (!file.empty()) {
    std::ofstream out(file);
    out << report.json.dump(1) << "\n";
    if (!out.flush()) {
      std::fprintf(stderr, "bench_kernels: cannot write %s\n", file.c_str());
      return 1;
    }
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_kernels: %s\n", error.what());
  return 1;
}
