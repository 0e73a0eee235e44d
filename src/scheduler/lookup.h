// Guesses how a text goes on by looking where its end was seen before.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "engine/model.h"

namespace syncyte {

// Shorter matches guess too badly; longer ones guess no better.
inline constexpr std::size_t kShortestMatch = 3;
inline constexpr std::size_t kLongestMatch = 16;
// From so many tokens on guesses are so often right that no better source is looked for.
inline constexpr std::size_t kGoodMatch = 8;

// Where the end of a text was seen, and how much of it.
struct TextMatch {
    std::size_t length = 0;  // tokens that are the same; 0: not seen
    std::size_t next = 0;    // place of the token that followed
};

// The longest match of the end of `text` in `source` that something follows, the latest of equals. Both may
// be the same. Time grows with the length of the source; at most the last kSearched tokens are looked at.
inline constexpr std::size_t kSearched = 8192;
TextMatch longest_match(std::span<const Token> source, std::span<const Token> text);

// `count` tokens of `text` from `next` on, and where it ends, over again from there: what repeats itself goes
// on doing so.
void repeat_from(std::span<const Token> text, std::size_t next, std::size_t count, std::vector<Token>& out);

}  // namespace syncyte
