#include "scheduler/parked_texts.h"

#include <algorithm>
#include <utility>

#include "scheduler/common_beginning.h"

namespace syncyte {

namespace {

std::size_t saved_tokens(const ParkedTexts::Text& text) { return text.tokens.size() - text.from; }

}  // namespace

std::size_t ParkedTexts::covering(const Wanted& wanted) const {
    const auto found = std::ranges::find_if(texts_, [&](const Text& text) {
        return text.salt == wanted.salt && text.from <= wanted.held &&
               common_beginning(wanted.tokens, text.tokens) == wanted.tokens.size();
    });
    return static_cast<std::size_t>(found - texts_.begin());
}

bool ParkedTexts::covers(const Wanted& wanted) {
    const std::size_t found = covering(wanted);
    if (found == texts_.size()) return false;
    texts_[found].last_used = ++clock_;
    return true;
}

bool ParkedTexts::takes(const Wanted& wanted) const {
    return tokens_ + wanted.tokens.size() - wanted.held <= most_ || covering(wanted) < texts_.size();
}

void ParkedTexts::add(Text text) {
    for (std::size_t i = texts_.size(); i-- > 0;) {
        const Text& other = texts_[i];
        if (other.salt == text.salt && other.from >= text.from &&
            common_beginning(other.tokens, text.tokens) == other.tokens.size())
            remove(i);
    }
    const std::size_t saved = saved_tokens(text);
    if (saved > most_) return;
    while (tokens_ + saved > most_) {
        remove(static_cast<std::size_t>(std::ranges::min_element(texts_, {}, &Text::last_used) -
                                        texts_.begin()));
    }
    text.last_used = ++clock_;
    tokens_ += saved;
    texts_.push_back(std::move(text));
}

// Of the texts; their number where there is none.
std::size_t ParkedTexts::index_of(const Wanted& wanted, std::size_t least) const {
    std::size_t best = texts_.size();
    for (std::size_t i = 0; i < texts_.size(); ++i) {
        if (texts_[i].salt != wanted.salt || texts_[i].from > wanted.held) continue;
        const std::size_t length = common_beginning(wanted.tokens, texts_[i].tokens);
        if (length < least) continue;
        best = i;
        least = length + 1;
    }
    return best;
}

const ParkedTexts::Text* ParkedTexts::find(const Wanted& wanted, std::size_t least) {
    const std::size_t found = index_of(wanted, least);
    if (found == texts_.size()) return nullptr;
    texts_[found].last_used = ++clock_;
    return &texts_[found];
}

std::optional<ParkedTexts::Text> ParkedTexts::take(const Wanted& wanted, std::size_t least) {
    const std::size_t found = index_of(wanted, least);
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
    tokens_ -= saved_tokens(text);
    texts_.erase(texts_.begin() + static_cast<std::ptrdiff_t>(index));
    return text;
}

}  // namespace syncyte
