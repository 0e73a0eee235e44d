#include "engine/token_trie.h"

#include <algorithm>
#include <cstddef>

namespace syncyte {

TokenTrie::TokenTrie(const Model& model) : end_tokens_(std::from_range, model.end_tokens()) {
    constexpr std::size_t kLongest = 1024;  // a longer text is of no use and would be left out
    texts_.resize(static_cast<std::size_t>(model.info().vocabulary_size));
    std::vector<Token> sorted;
    for (std::size_t i = 0; i < texts_.size(); ++i) {
        const auto token = static_cast<Token>(i);
        if (std::ranges::contains(end_tokens_, token)) continue;
        if (!model.append_piece(token, ParseSpecial::kNo, texts_[i]) || texts_[i].size() > kLongest) {
            texts_[i].clear();
        }
        if (!texts_[i].empty()) sorted.push_back(token);
    }
    std::ranges::sort(sorted, {}, [this](Token token) -> const std::string& {
        return texts_[static_cast<std::size_t>(token)];
    });
    std::vector<std::size_t> open;  // nodes on the way to the last text
    std::string_view last;
    const auto close_to = [&](std::size_t depth) {
        while (open.size() > depth) {
            nodes_[open.back()].after = static_cast<std::uint32_t>(nodes_.size());
            open.pop_back();
        }
    };
    for (const Token token : sorted) {
        const std::string_view text = texts_[static_cast<std::size_t>(token)];
        const auto same = static_cast<std::size_t>(std::ranges::mismatch(text, last).in1 - text.begin());
        close_to(same);
        for (std::size_t i = same; i < text.size(); ++i) {
            open.push_back(nodes_.size());
            nodes_.push_back({.byte = static_cast<std::uint8_t>(text[i]),
                              .depth = static_cast<std::uint16_t>(i + 1),
                              .tokens = static_cast<std::uint32_t>(tokens_.size())});
        }
        tokens_.push_back(token);
        deepest_ = std::max(deepest_, text.size());
        last = text;
    }
    close_to(0);
    nodes_.push_back({.tokens = static_cast<std::uint32_t>(tokens_.size())});
}

std::string_view TokenTrie::text(Token token) const {
    const auto index = static_cast<std::size_t>(token);
    return token >= 0 && index < texts_.size() ? std::string_view(texts_[index]) : std::string_view();
}

}  // namespace syncyte
