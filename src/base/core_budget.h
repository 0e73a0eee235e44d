// How many threads a computation may use without fighting others for a core.
//
// A team of threads that meets at barriers runs as fast as its slowest member: one that shares its core
// with somebody else's loop holds all of them up, several times over. So a team takes the cores that are
// left.
#pragma once

#include <array>
#include <cstddef>

#include "base/clock.h"
#include "base/cpu.h"

namespace syncyte {

// What the user has decided for the process; 0: nothing.
struct FixedCores {
    int engine = 0;  // threads a team takes, however busy the machine is
    int agents = 0;  // cores left to others, even while they are idle

    friend bool operator==(const FixedCores&, const FixedCores&) = default;
};

// Any thread. Holds from each team's next round on.
void fix_cores(FixedCores cores) noexcept;
FixedCores fixed_cores() noexcept;

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

    // For the start of a computation of about so many seconds (0: not known), by its first thread, when the
    // last look is long past: several looks, of which the least counts. Those whose requests started the
    // computation still run in the first ones, on their way to wait for it, and the teams of others go on
    // spinning for some milliseconds after their work. So the looks go on, while anybody runs, for a
    // twentieth of the computation: a few tenths of a millisecond to some milliseconds. Too few threads cost
    // more. `look` counts the machine's running threads.
    void refresh(double seconds, int (*look)() noexcept = running_threads_now);
    // What refresh() does with the least that it saw: threads that ran, the caller included.
    void begin(int least, Clock::time_point now);

    // Threads for the next round: at least 1, at most `most`, and within what fix_cores() says.
    [[nodiscard]] int threads(int most) const;

    // The same for a machine with `online` cores of which `usable` are granted to this process.
    [[nodiscard]] int threads(int most, int usable, int online, FixedCores fixed = {}) const;

    // Threads of others that were running lately: a smoothed count.
    [[nodiscard]] double others() const { return others_; }

  private:
    static constexpr std::size_t kLooks = 12;

    double others_ = 0;
    std::array<double, kLooks> looks_{};  // the latest ones, in no order
    std::size_t count_ = 0;               // looks since the last pause
    Clock::time_point last_ = Clock::time_point::min();
};

}  // namespace syncyte
