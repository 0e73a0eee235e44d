#include "scheduler/adapter_turns.h"

#include <algorithm>
#include <utility>

namespace syncyte {

namespace {

constexpr double kTurn = 0.1;      // seconds
constexpr double kPatience = 1.0;  // seconds for each adapter there is

}  // namespace

AppliedAdapter AdapterTurns::choose(std::span<const Claim> claims, Clock::time_point now) {
    update(claims, now);
    if (claims.empty()) {
        serving_ = {};
        serves_ = false;
        return serving_;
    }
    const auto current = std::ranges::find(claims, serving_, &Claim::adapter);
    const bool goes_on = serves_ && current != claims.end();
    if (goes_on && turn_ < kTurn) {
        const bool passed =
            std::ranges::any_of(claims, [&](const Claim& claim) { return claim.precedes(*current); });
        if (owed_ || !passed) return serving_;
    }
    // Who has just had a turn waits from now on, behind the others.
    if (goes_on) members_[static_cast<std::size_t>(current - claims.begin())].waiting_since = now;
    serving_ = claims[next(claims, now)].adapter;
    serves_ = true;
    turn_ = 0;
    return serving_;
}

// Who comes, or comes back, waits from now on.
void AdapterTurns::update(std::span<const Claim> claims, Clock::time_point now) {
    std::vector<Member> before = std::exchange(members_, {});
    for (const Claim& claim : claims) {
        const auto known = std::ranges::find(before, claim.adapter, &Member::adapter);
        members_.push_back(known == before.end() ? Member{.adapter = claim.adapter, .waiting_since = now}
                                                 : std::move(*known));
    }
}

std::size_t AdapterTurns::next(std::span<const Claim> claims, Clock::time_point now) {
    const auto waited_longer = [&](std::size_t a, std::size_t b) {
        return members_[a].waiting_since < members_[b].waiting_since;
    };
    std::size_t urgent = 0;
    std::size_t oldest = 0;
    for (std::size_t i = 1; i < claims.size(); ++i) {
        if (waited_longer(i, oldest)) oldest = i;
        const bool same = !claims[urgent].precedes(claims[i]);
        if (claims[i].precedes(claims[urgent]) || (same && waited_longer(i, urgent))) urgent = i;
    }
    const double patience = kPatience * static_cast<double>(claims.size());
    owed_ = oldest != urgent && seconds_between(members_[oldest].waiting_since, now) >= patience;
    return owed_ ? oldest : urgent;
}

}  // namespace syncyte
