#include "scheduler/parked_texts.h"

#include <algorithm>
#include <utility>

#include "scheduler/common_beginning.h"

namespace syncyte {

std::size_t ParkedTexts::covering(std::span<const Token> tokens, std::string_view salt) const {
    const auto found = std::ranges::find_if(texts_, [&](const Text& text) {
        return text.salt == salt && common_beginning(tokens, text.tokens) == tokens.size();
    });
    return static_cast<std::size_t>(found - texts_.begin());
}

bool ParkedTexts::covers(std::span<const Token> tokens, std::string_view salt) {
    const std::size_t found = covering(tokens, salt);
    if (found == texts_.size()) return false;
    texts_[found].last_used = ++clock_;
    return true;
}

bool ParkedTexts::takes(std::span<const Token> tokens, std::string_view salt) const {
    return tokens_ + tokens.size() <= most_ || covering(tokens, salt) < texts_.size();
}

void ParkedTexts::add(Text text) {
    for (std::size_t i = texts_.size(); i-- > 0;) {
        const Text& other = texts_[i];
        if (other.salt == text.salt && common_beginning(other.tokens, text.tokens) == other.tokens.size())
            remove(i);
    }
    if (text.tokens.size() > most_) return;
    while (tokens_ + text.tokens.size() > most_) {
        remove(static_cast<std::size_t>(std::ranges::min_element(texts_, {}, &Text::last_used) -
                                        texts_.begin()));
    }
    text.last_used = ++clock_;
    tokens_ += text.tokens.size();
    texts_.push_back(std::move(text));
}

// Of the texts; their number where there is none.
std::size_t ParkedTexts::index_of(std::span<const Token> tokens, std::string_view salt,
                                  std::size_t least) const {
    std::size_t best = texts_.size();
    for (std::size_t i = 0; i < texts_.size(); ++i) {
        if (texts_[i].salt != salt) continue;
        const std::size_t length = common_beginning(tokens, texts_[i].tokens);
        if (length < least) continue;
        best = i;
        least = length + 1;
    }
    return best;
}

const ParkedTexts::Text* ParkedTexts::find(std::span<const Token> tokens, std::string_view salt,
                                           std::size_t least) {
    const std::size_t found = index_of(tokens, salt, least);
    if (found == texts_.size()) return nullptr;
    texts_[found].last_used = ++clock_;
    return &texts_[found];
}

std::optional<ParkedTexts::Text> ParkedTexts::take(std::span<const Token> tokens, std::string_view salt,
                                                   std::size_t least) {
    const std::size_t found = index_of(tokens, salt, least);
    if (found == texts_.size()) return std::nullopt;
    return remove(found);
}

void ParkedTexts::list(std::string_view salt, std::vector<std::span<const Token>>& found) const {
    for (const Text& text : texts_) {
        if (text.salt == salt) found.emplace_back(text.tokens);
    }
}

void ParkedTexts::clear() {
    texts_.clear();
    tokens_ = 0;
}

ParkedTexts::Text ParkedTexts::remove(std::size_t index) {
    Text text = std::move(texts_[index]);
    tokens_ -= text.tokens.size();
    texts_.erase(texts_.begin() + static_cast<std::ptrdiff_t>(index));
    return text;
}

}  // namespace syncyte
