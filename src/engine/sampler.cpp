#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace syncyte {

namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// Likeliest first; equal logits by token, so that the order is a total one.
struct Likelier {
    template <class C>
    bool operator()(const C& a, const C& b) const {
        return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
    }
};

Token likeliest(std::span<const float> logits) {
    const auto best = std::ranges::max_element(logits);
    return static_cast<Token>(best - logits.begin());
}

}  // namespace

Sampler::Sampler(const SamplingParams& params, std::vector<Token> banned, std::span<const Token> prompt)
    : params_(params), banned_(std::move(banned)) {
    const std::size_t seen = std::min(prompt.size(), kRepeatWindow);
    for (const Token token : prompt.last(seen)) remember(token);
}

void Sampler::remember(Token token) {
    if (params_.repeat_penalty == 1.0F) return;
    recent_.push_back(token);
    if (recent_.size() > kRepeatWindow) recent_.pop_front();
}

void Sampler::penalise(std::span<float> logits) const {
    if (params_.repeat_penalty == 1.0F) return;
    std::vector<Token> unique(recent_.begin(), recent_.end());
    std::ranges::sort(unique);
    unique.erase(std::ranges::unique(unique).begin(), unique.end());
    for (const Token token : unique) {
        float& logit = logits[static_cast<std::size_t>(token)];
        logit = logit > 0 ? logit / params_.repeat_penalty : logit * params_.repeat_penalty;
    }
}

// The top_k likeliest (all when top_k is 0), likeliest first.
void Sampler::collect(std::span<const float> logits) {
    candidates_.clear();
    const auto limit =
        params_.top_k <= 0 ? logits.size() : std::min(logits.size(), static_cast<std::size_t>(params_.top_k));
    // A heap with the least likely on top: for most tokens one comparison says that they are out.
    for (std::size_t i = 0; i < logits.size(); ++i) {
        if (logits[i] == kNever) continue;
        const Candidate candidate{logits[i], static_cast<Token>(i)};
        if (candidates_.size() < limit) {
            candidates_.push_back(candidate);
            if (candidates_.size() == limit) std::ranges::make_heap(candidates_, Likelier{});
        } else if (Likelier{}(candidate, candidates_.front())) {
            std::ranges::pop_heap(candidates_, Likelier{});
            candidates_.back() = candidate;
            std::ranges::push_heap(candidates_, Likelier{});
        }
    }
    // What min_p drops need not be sorted. Without top_k that is nearly everything.
    if (params_.min_p > 0 && params_.top_p >= 1 && !candidates_.empty()) {
        const float best = std::ranges::max_element(candidates_, {}, &Candidate::logit)->logit;
        const float least = best + std::log(params_.min_p);
        std::erase_if(candidates_, [least](const Candidate& c) { return c.logit < least; });
    }
    std::ranges::sort(candidates_, Likelier{});
}

double Sampler::next_uniform() {
    // splitmix64 of a counter: the n-th number does not depend on how the others were used.
    std::uint64_t x = params_.seed + 0x9E3779B97F4A7C15ULL * ++draws_;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    x ^= x >> 31;
    return static_cast<double>(x >> 11) * 0x1.0p-53;
}

Token Sampler::draw() {
    const float best = candidates_.front().logit;
    weights_.resize(candidates_.size());
    double total = 0;
    for (std::size_t i = 0; i < candidates_.size(); ++i) {
        weights_[i] = std::exp(static_cast<double>(candidates_[i].logit - best));
        total += weights_[i];
    }
    std::size_t kept = candidates_.size();
    if (params_.top_p < 1) {
        double sum = 0;
        for (kept = 0; kept < candidates_.size() && (kept == 0 || sum < params_.top_p * total); ++kept) {
            sum += weights_[kept];
        }
    }
    while (kept > 1 && weights_[kept - 1] < static_cast<double>(params_.min_p)) --kept;

    total = 0;
    for (std::size_t i = 0; i < kept; ++i) {
        weights_[i] = std::exp(static_cast<double>(candidates_[i].logit - best) / params_.temperature);
        total += weights_[i];
    }
    double mark = next_uniform() * total;
    for (std::size_t i = 0; i < kept; ++i) {
        mark -= weights_[i];
        if (mark < 0) return candidates_[i].token;
    }
    return candidates_[kept - 1].token;
}

Token Sampler::sample(std::span<float> logits) {
    penalise(logits);
    for (const Token token : banned_) logits[static_cast<std::size_t>(token)] = kNever;
    // A model that computes NaN must not choose by accident of comparison.
    for (float& logit : logits) {
        if (std::isnan(logit)) logit = kNever;
    }
    Token chosen = 0;
    if (params_.temperature <= 0) {
        chosen = likeliest(logits);
    } else {
        collect(logits);
        chosen = candidates_.empty() ? likeliest(logits) : draw();
    }
    remember(chosen);
    return chosen;
}

}  // namespace syncyte
