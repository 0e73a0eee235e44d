#include "scheduler/lookup.h"

#include <algorithm>

namespace syncyte {

TextMatch longest_match(std::span<const Token> source, std::span<const Token> text) {
    TextMatch best;
    if (text.size() < kShortestMatch || source.size() <= kShortestMatch) return best;
    const Token last = text.back();
    const std::size_t first = source.size() > kSearched ? source.size() - kSearched : 0;
    for (std::size_t next = source.size() - 1; next >= first + kShortestMatch; --next) {
        if (source[next - 1] != last) continue;
        const std::size_t most = std::min({next - first, text.size(), kLongestMatch});
        std::size_t length = 1;
        while (length < most && source[next - 1 - length] == text[text.size() - 1 - length]) ++length;
        if (length < kShortestMatch || length <= best.length) continue;
        best = {.length = length, .next = next};
        if (length == kLongestMatch) break;
    }
    return best;
}

void repeat_from(std::span<const Token> text, std::size_t next, std::size_t count, std::vector<Token>& out) {
    out.clear();
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t place = next + i;
        out.push_back(place < text.size() ? text[place] : out[place - text.size()]);
    }
}

}  // namespace syncyte
