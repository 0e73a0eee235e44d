#include "engine/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
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

// Logits are read by blocks whose largest value is found first: a vocabulary has tens of thousands of tokens,
// all sequences are sampled one after another between two steps, and the other cores wait for it.
constexpr std::size_t kBlock = 64;

// NaN is less than everything. Lane by lane, so that it compiles to vector instructions.
float largest(std::span<const float> logits) {
    constexpr std::size_t kLanes = 16;
    std::array<float, kLanes> lanes;
    lanes.fill(kNever);
    std::size_t i = 0;
    for (; i + kLanes <= logits.size(); i += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            const float logit = logits[i + lane];
            lanes[lane] = logit > lanes[lane] ? logit : lanes[lane];
        }
    }
    float best = kNever;
    for (const float lane : lanes) best = lane > best ? lane : best;
    for (; i < logits.size(); ++i) best = logits[i] > best ? logits[i] : best;
    return best;
}

// The first among equals; 0 when no token can be chosen.
Token likeliest(std::span<const float> logits) {
    float best = kNever;
    std::size_t block = 0;
    for (std::size_t first = 0; first < logits.size(); first += kBlock) {
        const float here = largest(logits.subspan(first, std::min(kBlock, logits.size() - first)));
        if (here > best) {
            best = here;
            block = first;
        }
    }
    if (best == kNever) return 0;
    return static_cast<Token>(std::ranges::find(logits.subspan(block), best) - logits.begin());
}

}  // namespace

Sampler::Sampler(const SamplingParams& params, std::vector<Token> banned, std::span<const Token> prompt,
                 std::shared_ptr<GrammarMachine> grammar)
    : params_(params), banned_(std::move(banned)) {
    if (grammar) grammar_.emplace(std::move(grammar));
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

// The top_k likeliest (all when top_k is 0), in no order.
void Sampler::collect(std::span<const float> logits) {
    const auto limit =
        params_.top_k <= 0 ? logits.size() : std::min(logits.size(), static_cast<std::size_t>(params_.top_k));
    maxima_.clear();
    for (std::size_t first = 0; first < logits.size(); first += kBlock) {
        maxima_.push_back(largest(logits.subspan(first, std::min(kBlock, logits.size() - first))));
    }
    // With `limit` blocks that reach so far there are `limit` tokens that do: nobody below is among them.
    float least = kNever;
    if (limit < maxima_.size()) {
        sorted_maxima_ = maxima_;
        const auto last = sorted_maxima_.begin() + static_cast<std::ptrdiff_t>(limit - 1);
        std::ranges::nth_element(sorted_maxima_, last, std::greater{});
        least = *last;
    }
    candidates_.clear();
    for (std::size_t block = 0; block < maxima_.size(); ++block) {
        if (maxima_[block] < least) continue;
        const std::size_t end = std::min((block + 1) * kBlock, logits.size());
        for (std::size_t i = block * kBlock; i < end; ++i) {
            if (logits[i] >= least && logits[i] > kNever) {
                candidates_.push_back({logits[i], static_cast<Token>(i)});
            }
        }
    }
    if (candidates_.size() <= limit) return;
    std::ranges::nth_element(candidates_, candidates_.begin() + static_cast<std::ptrdiff_t>(limit),
                             Likelier{});
    candidates_.resize(limit);
}

double Sampler::next_uniform() {
    // splitmix64 of a counter: the n-th number does not depend on how the others were used.
    std::uint64_t x = params_.seed + 0x9E3779B97F4A7C15ULL * ++draws_;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    x ^= x >> 31;
    return static_cast<double>(x >> 11) * 0x1.0p-53;
}

// Sorts the candidates, likeliest first, and drops what top_p and min_p exclude. At least one stays.
void Sampler::filter() {
    const float best = std::ranges::max_element(candidates_, {}, &Candidate::logit)->logit;
    double total = 0;
    if (params_.top_p < 1) {
        for (const Candidate& candidate : candidates_) total += std::exp(candidate.logit - best);
    }
    // Both keep the likeliest, so their order does not matter: what min_p drops need not be sorted. Without
    // top_k that is nearly everything.
    if (params_.min_p > 0) {
        const float least = best + std::log(params_.min_p);
        std::erase_if(candidates_,
                      [least, best](const Candidate& c) { return c.logit < least && c.logit < best; });
    }
    std::ranges::sort(candidates_, Likelier{});
    if (params_.top_p >= 1) return;
    std::size_t kept = 0;
    for (double sum = 0; kept < candidates_.size() && (kept == 0 || sum < params_.top_p * total); ++kept) {
        sum += std::exp(candidates_[kept].logit - best);
    }
    candidates_.resize(kept);
}

Token Sampler::draw_from(std::span<const float> logits) {
    collect(logits);
    if (candidates_.empty()) return 0;
    filter();
    return draw();
}

Token Sampler::draw() {
    const float best = candidates_.front().logit;
    weights_.clear();
    double total = 0;
    for (const Candidate& candidate : candidates_) {
        weights_.push_back(std::exp(static_cast<double>(candidate.logit - best) / params_.temperature));
        total += weights_.back();
    }
    double mark = next_uniform() * total;
    for (std::size_t i = 0; i < candidates_.size(); ++i) {
        mark -= weights_[i];
        if (mark < 0) return candidates_[i].token;
    }
    return candidates_.back().token;
}

Token Sampler::choose(std::span<const float> logits) {
    return params_.temperature <= 0 ? likeliest(logits) : draw_from(logits);
}

// A model that knows what is wanted rarely needs the whole vocabulary looked through: what it would choose
// freely is tried first. Where that is not allowed the choice is made again among what is; both together
// choose as if the rest had never been there.
Result<Token> Sampler::choose_allowed(std::span<float> logits) {
    const Token free = choose(logits);
    if (logits[static_cast<std::size_t>(free)] > kNever && grammar_->allows(free)) return free;
    if (grammar_->restrict(logits)) return choose(logits);
    // Only the end is left, and it was banned.
    if (grammar_->may_end() && !banned_.empty()) return banned_.front();
    return std::unexpected(grammar_->dead_end());
}

Result<Token> Sampler::sample(std::span<float> logits) {
    penalise(logits);
    for (const Token token : banned_) logits[static_cast<std::size_t>(token)] = kNever;
    Token chosen = 0;
    if (grammar_) {
        const Result<Token> allowed = choose_allowed(logits);
        if (!allowed) return allowed;
        chosen = *allowed;
        grammar_->accept(chosen);
    } else {
        chosen = choose(logits);
    }
    remember(chosen);
    return chosen;
}

}  // namespace syncyte
