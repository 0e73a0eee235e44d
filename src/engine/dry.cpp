#include "engine/dry.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace syncyte {

void Dry::add(Token token, bool breaks) {
    text_.push_back(token);
    since_break_ = breaks ? 0 : since_break_ + 1;
}

void Dry::penalise(std::span<float> logits) {
    const std::size_t size = text_.size();
    const auto allowed = static_cast<std::size_t>(params_.allowed_length);
    if (size < 2 || since_break_ < std::max<std::size_t>(allowed, 1)) return;
    reversed_.assign(text_.rbegin(), text_.rend());
    // matches_[i]: how long the text, read backwards, is the same from its end and from i tokens before it
    // (the Z function).
    matches_.assign(size, 0);
    for (std::size_t i = 1, left = 0, right = 0; i < size; ++i) {
        std::size_t length = i < right ? std::min(right - i, matches_[i - left]) : 0;
        while (i + length < size && reversed_[length] == reversed_[i + length]) ++length;
        matches_[i] = length;
        if (i + length > right) {
            left = i;
            right = i + length;
        }
    }
    longest_.clear();
    for (std::size_t i = 1; i < size; ++i) {
        const std::size_t length = std::min(matches_[i], since_break_);
        if (length >= std::max<std::size_t>(allowed, 1)) longest_.emplace_back(reversed_[i - 1], length);
    }
    std::ranges::sort(longest_, [](const auto& a, const auto& b) {
        return a.first < b.first || (a.first == b.first && a.second > b.second);
    });
    constexpr double kMost = 1e6;  // far below every other logit, and still a number
    for (std::size_t i = 0; i < longest_.size(); ++i) {
        const auto [token, length] = longest_[i];
        if (i > 0 && longest_[i - 1].first == token) continue;
        const double penalty =
            params_.multiplier * std::pow(params_.base, static_cast<double>(length - allowed));
        logits[static_cast<std::size_t>(token)] -= static_cast<float>(std::min(penalty, kMost));
    }
}

}  // namespace syncyte
