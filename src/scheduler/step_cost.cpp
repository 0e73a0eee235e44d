#include "scheduler/step_cost.h"

#include <algorithm>

namespace syncyte {

namespace {

constexpr double kRow = 0.25;           // of a one-row step, for each further row: before it was measured
constexpr std::uint32_t kEnough = 4;    // measurements
constexpr std::uint64_t kLately = 64;   // steps
constexpr double kCommon = 0.3;         // of a deviation, taken for one of all steps
constexpr double kOwn = 0.1;            // of it, taken for one of steps of so many rows
constexpr double kMostDeviation = 2.0;  // one slow step is the machine's doing

double assumed(std::size_t rows) { return 1 + kRow * static_cast<double>(rows - 1); }

}  // namespace

void StepCost::note(std::size_t rows, double seconds) {
    if (seconds <= 0 || rows == 0 || rows > kMostRows) return;
    ++steps_;
    Measured& here = measured_[rows];
    if (level_ == 0) level_ = seconds / assumed(rows);
    if (here.times == 0) {
        here.cost = seconds / level_;
    } else {
        const double deviation = std::min(seconds / (level_ * here.cost), kMostDeviation) - 1;
        level_ *= 1 + kCommon * deviation;
        here.cost *= 1 + kOwn * deviation;
    }
    here.times = std::min(here.times + 1, kEnough);
    here.when = steps_;
}

double StepCost::of(std::size_t rows) const {
    rows = std::clamp(rows, std::size_t{1}, kMostRows);
    if (measured_[rows].times > 0) return measured_[rows].cost;
    std::size_t below = rows;
    while (below > 0 && measured_[below].times == 0) --below;
    std::size_t above = rows;
    while (above <= kMostRows && measured_[above].times == 0) ++above;
    // Beyond what was measured each row adds the same: a few rows may cost much where many cost little more.
    if (above > kMostRows) {
        if (below == 0) return assumed(rows);
        const double one =
            measured_[1].times > 0 ? measured_[1].cost : measured_[below].cost / assumed(below);
        return measured_[below].cost + kRow * one * static_cast<double>(rows - below);
    }
    const double high = measured_[above].cost;
    if (below == 0) return high * assumed(rows) / assumed(above);
    const double low = measured_[below].cost;
    return low + (high - low) * static_cast<double>(rows - below) / static_cast<double>(above - below);
}

bool StepCost::knows(std::size_t rows) const {
    if (rows == 0 || rows > kMostRows) return false;
    const Measured& here = measured_[rows];
    return here.times >= kEnough && steps_ - here.when <= kLately;
}

}  // namespace syncyte
