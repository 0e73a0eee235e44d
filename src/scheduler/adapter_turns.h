// Whose turn it is among requests with different adapters, since a step computes with one of them.
#pragma once

#include <cstdint>
#include <span>
#include <tuple>
#include <vector>

#include "base/clock.h"
#include "engine/model.h"

namespace syncyte {

// Adapters, and the model alone, take turns of a tenth of a second, which is long beside what switching
// costs. The next turn is that of the most urgent: by priority, then by deadline, then whoever has waited
// longest. More urgent ones that come do not wait for the end of a turn. Whoever has waited a second for each
// adapter there is gets the next turn, a whole one, whatever the others' urgency: nobody starves. One thread.
class AdapterTurns {
  public:
    // An adapter with requests to compute, and what the most urgent of them asks.
    struct Claim {
        AppliedAdapter adapter;
        std::int32_t priority = 0;
        Clock::time_point deadline = Clock::time_point::max();  // max: none

        [[nodiscard]] bool precedes(const Claim& other) const {
            return std::tuple(-priority, deadline) < std::tuple(-other.priority, other.deadline);
        }
    };

    // What the step that begins `now` computes with: one of the claims, none twice; with none, the model
    // alone.
    AppliedAdapter choose(std::span<const Claim> claims, Clock::time_point now);
    // The step took so long.
    void note(double seconds) { turn_ += seconds; }

  private:
    // An adapter that has claimed without a break.
    struct Member {
        AppliedAdapter adapter;
        Clock::time_point waiting_since{};
    };

    void update(std::span<const Claim> claims, Clock::time_point now);
    [[nodiscard]] std::size_t next(std::span<const Claim> claims, Clock::time_point now);

    std::vector<Member> members_;  // as the claims are, in the same order
    AppliedAdapter serving_;
    bool serves_ = false;  // there was a step before this one, and it was of serving_
    double turn_ = 0;      // seconds of this turn
    bool owed_ = false;    // this turn is for having waited: nobody cuts it short
};

}  // namespace syncyte
