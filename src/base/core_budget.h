// How many threads a computation may use without fighting others for a core.
//
// A team of threads that meets at barriers runs as fast as its slowest member: one that shares its core
// with somebody else's loop holds all of them up, several times over. So a team takes the cores that are
// left.
#pragma once

#include <array>
#include <cstddef>

#include "base/clock.h"

namespace syncyte {

// Owned and used by the one thread that leads the team; not shared.
class CoreBudget {
  public:
    // Notes that `running` threads of the machine ran or waited for a core at `now`, `own` of them the
    // team's. Newcomers are believed within some ten milliseconds, their leaving within a tenth of a second.
    // Those who are there in one look and gone in the next but one do not count: each step of a model wakes
    // all who wait for its tokens, and most of them soon wait again.
    void observe(int running, int own, Clock::time_point now);

    // The same with the machine's own count, at most once a millisecond; cheap to call more often. Call it
    // while all `own` threads compute.
    void observe_machine(int own);

    // Like observe_machine(1), for the start of a computation: only when the last look is long past.
    void refresh();

    // Threads for the next round: at least 1, at most `most`.
    [[nodiscard]] int threads(int most) const;

    // The same for a machine with `online` cores of which `usable` are granted to this process.
    [[nodiscard]] int threads(int most, int usable, int online) const;

    // Threads of others that were running lately: a smoothed count.
    [[nodiscard]] double others() const { return others_; }

  private:
    static constexpr std::size_t kLooks = 3;

    double others_ = 0;
    std::array<double, kLooks> looks_{};  // the latest ones, in no order
    std::size_t count_ = 0;               // looks since the last pause
    Clock::time_point last_ = Clock::time_point::min();
};

}  // namespace syncyte
